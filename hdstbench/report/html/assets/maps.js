// The map viewer: section, measurement and predictions of one gene, moved and enlarged together.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg"; // a name, never fetched
  const MOST = 60;
  let job, view, layers;

  const slide = () => job.maps.slides[Number($("map-slide").value)];
  const gene = () => job.maps.genes[Number($("map-gene").value)];

  // A picture on a map; all places are um in the frame of the slide's image.
  const picture = (source, name, text, attributes) => {
    const node = document.createElementNS(SVG, "image");
    const all = { href: source, class: name, preserveAspectRatio: "none", "aria-label": text, ...attributes };
    for (const [key, value] of Object.entries(all)) node.setAttribute(key, value);
    return node;
  };

  const still = (source, [left, top, right, bottom], text) =>
    picture(source, "he", text, { x: left, y: top, width: right - left, height: bottom - top });

  const section = (s) => [
    still(s.section, s.section_extent, `H&E of ${s.slide}`),
    ...s.windows.map((w) => still(w.section, w.extent, `H&E of ${s.slide}, ${w.name}`)),
  ];

  const figure = (title, note, images, missing) => {
    const s = slide();
    const node = Report.element("figure");
    const caption = Report.element("figcaption", `${title} `);
    if (note) caption.append(Report.element("span", note));
    const frame = Report.element("div", null, { class: "frame" });
    frame.style.aspectRatio = `${s.frame[2] - s.frame[0]} / ${s.frame[3] - s.frame[1]}`;
    const layer = document.createElementNS(SVG, "svg");
    layer.setAttribute("class", "layer");
    layer.append(...section(s), ...images);
    frame.append(layer, Report.element("div", null, { class: "bar" }));
    if (missing) frame.append(Report.element("div", missing, { class: "none" }));
    node.append(caption, frame);
    return node;
  };

  const said = (found) =>
    found ? `pcc ${Report.number(found[0])}, MSE ${Report.number(found[1])}` : "";

  const panels = () => {
    const [s, g] = [slide(), gene()];
    const here = s.genes[g.id];
    const error = $("map-show").value === "error";
    const map = (file, text) => picture(`${s.folder}/${file}.png`, "map", text, {
      width: s.map_size[0], height: s.map_size[1], transform: `matrix(${s.map_matrix.join(" ")})`,
      opacity: $("map-opacity").value / 100 });
    const out = [figure("H&E", s.slide, [], "")];
    const none = here ? "" : "not in the panel of this slide's fold";
    out.push(figure("measured", "", here ? [map(`${here.file}-t`, `${g.name} as measured`)] : [], none));
    job.maps.models.forEach((model, i) => {
      const there = here && model in here.scores;
      const file = there ? `${here.file}-m${i}${error ? "e" : ""}` : "";
      const text = `${g.name}, ${error ? "error of" : "predicted by"} ${model}`;
      const why = none || (there ? "" : "no prediction");
      out.push(figure(model, there ? said(here.scores[model]) : "", there ? [map(file, text)] : [], why));
    });
    $("map-grid").replaceChildren(...out);
    layers = [...document.querySelectorAll("#map-grid .layer")];
    scale(here, error);
    move();
  };

  const scale = (here, error) => {
    const node = $("map-scale");
    if (!here) return node.replaceChildren();
    const palette = error ? job.maps.error_palette : job.maps.palette;
    const bar = Report.element("span", null, { class: "colours", role: "img", "aria-label": "colour scale" });
    bar.style.background = `linear-gradient(to right, ${palette.join(", ")})`;
    const [low, top] = error ? [-here.reach, here.reach] : [here.low, here.top];
    const shown = [Report.element("span", `≤ ${Report.number(low, 2)}`), bar,
      Report.element("span", `≥ ${Report.number(top, 2)}`), Report.element("span", `${gene().name}, ${job.maps.unit}${slide().pixel}`)];
    return node.replaceChildren(...shown);
  };

  // Keep the view inside the frame, and move every map to it; x, y and size are shares of the frame.
  const move = () => {
    const [left, top, right, bottom] = slide().frame;
    const [wide, high] = [right - left, bottom - top];
    view.size = Math.min(1, Math.max(1 / MOST, view.size));
    view.x = Math.min(1 - view.size, Math.max(0, view.x));
    view.y = Math.min(1 - view.size, Math.max(0, view.y));
    const box = [left + view.x * wide, top + view.y * high, view.size * wide, view.size * high];
    for (const layer of layers) layer.setAttribute("viewBox", box.join(" "));
    bars();
  };

  const bars = () => {
    const s = slide();
    const shown = (s.frame[2] - s.frame[0]) * view.size;
    const length = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000].filter((v) => v <= shown / 3).pop();
    document.querySelectorAll("#map-grid .bar").forEach((bar) => {
      bar.style.width = `${(100 * length) / shown}%`;
      bar.textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
    });
  };

  const zoom = (times, x = 0.5, y = 0.5) => {
    const size = Math.min(1, Math.max(1 / MOST, view.size * times));
    view = { x: view.x + (view.size - size) * x, y: view.y + (view.size - size) * y, size };
    move();
  };

  const part = () => {
    const [s, chosen] = [slide(), $("map-part").value];
    view = { x: 0, y: 0, size: 1 };
    if (chosen !== "") {
      const [left, top, right, bottom] = s.windows[Number(chosen)].extent;
      const [wide, high] = [s.frame[2] - s.frame[0], s.frame[3] - s.frame[1]];
      view.size = Math.max((right - left) / wide, (bottom - top) / high) * 1.05;
      view.x = (left + right) / 2 / wide - s.frame[0] / wide - view.size / 2;
      view.y = (top + bottom) / 2 / high - s.frame[1] / high - view.size / 2;
    }
    move();
  };

  const parts = () => {
    Report.options($("map-part"), [["", "whole slide"], ...slide().windows.map((w, i) => [i, w.name])]);
    view = { x: 0, y: 0, size: 1 };
    panels();
  };

  const drag = (grid) => {
    let from = null;
    grid.addEventListener("pointerdown", (event) => {
      const frame = event.target.closest(".frame");
      if (!frame) return;
      from = { x: event.clientX, y: event.clientY, box: frame.getBoundingClientRect(), view };
      grid.setPointerCapture(event.pointerId);
    });
    grid.addEventListener("pointermove", (event) => {
      if (!from) return;
      view = { ...from.view,
        x: from.view.x - ((event.clientX - from.x) / from.box.width) * from.view.size,
        y: from.view.y - ((event.clientY - from.y) / from.box.height) * from.view.size };
      move();
    });
    for (const end of ["pointerup", "pointercancel"]) grid.addEventListener(end, () => { from = null; });
    grid.addEventListener("wheel", (event) => {
      const frame = event.target.closest(".frame");
      if (!frame || !event.ctrlKey) return; // without Ctrl the page scrolls
      event.preventDefault();
      const box = frame.getBoundingClientRect();
      const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      zoom(event.deltaY > 0 ? 1.25 : 0.8, ...at);
    }, { passive: false });
  };

  Report.listen = () => {
    $("map-slide").onchange = parts;
    $("map-gene").onchange = panels;
    $("map-show").onchange = panels;
    $("map-part").onchange = part;
    $("map-opacity").oninput = () => document.querySelectorAll("#map-grid .map").forEach((image) => {
      image.setAttribute("opacity", $("map-opacity").value / 100);
    });
    $("map-in").onclick = () => zoom(0.7);
    $("map-out").onclick = () => zoom(1 / 0.7);
    $("map-reset").onclick = part;
    drag($("map-grid"));
  };

  Report.maps = (chosen) => {
    job = chosen;
    const there = Boolean(job.maps && job.maps.slides.length);
    $("maps").hidden = !there;
    const why = job.without.length || there ? job.without : ["No maps: nothing that they could be drawn of."];
    $("maps-none").hidden = why.length === 0;
    $("maps-none").replaceChildren(...why.map((line) => Report.element("div", line)));
    if (!there) return;
    Report.options($("map-slide"), job.maps.slides.map((s, i) => [i, `${s.slide} (patient ${s.patient})`]));
    Report.options($("map-gene"), job.maps.genes.map((g, i) => [i, g.name + (g.asked ? " (asked for)" : "")]));
    parts();
  };
})();
