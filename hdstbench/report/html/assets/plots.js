// Plots of one table: intervals and ranks, accuracy against cost, genes against their ceilings.
"use strict";

(() => {
  const BLUE = "#1f5a99";
  const GREY = "#7b8794";
  const ORANGE = "#b35806";
  const SETTINGS = { responsive: true, displaylogo: false, displayModeBar: false };
  const COSTS = [
    ["fit_s", "seconds to fit a cell"],
    ["predict_s", "seconds to predict a cell's slides"],
    ["parameters", "parameters"],
    ["host_mb", "host memory, MiB"],
    ["device_mb", "device memory, MiB"],
  ];

  const layout = (more) => ({
    margin: { l: 60, r: 16, t: 16, b: 48 },
    font: { family: "system-ui, sans-serif", size: 13, color: "#1c2430" },
    hoverlabel: { align: "left" },
    showlegend: false,
    ...more,
  });

  const whole = (job) => job.rows.filter((row) => row.pcc && row.kind !== "oracle");
  const colour = (row) => (row.ranked ? BLUE : GREY);

  const interval = (row) => {
    const { value, low, high } = row.pcc;
    const range = low === null ? "no interval" : `${Report.number(low)} to ${Report.number(high)}`;
    return `${row.model}<br>pcc_gene ${Report.number(value)} (${range})`;
  };

  Report.ranks = (job) => {
    const rows = whole(job).reverse(); // the best on top
    const names = rows.map((row) => row.model);
    const spread = (end) => rows.map((r) => (r.pcc.low === null ? 0 : Math.abs(r.pcc[end] - r.pcc.value)));
    const values = {
      x: rows.map((row) => row.pcc.value), y: names, mode: "markers", type: "scatter",
      marker: { color: rows.map(colour), size: 9 },
      error_x: { type: "data", symmetric: false, array: spread("high"), arrayminus: spread("low"), thickness: 1.5, color: GREY },
      text: rows.map(interval), hovertemplate: "%{text}<extra></extra>",
    };
    const ranked = rows.filter((row) => row.standing);
    const ranks = ranked.map((row) => ({
      x: [row.standing.best, row.standing.worst], y: [row.model, row.model], xaxis: "x2", mode: "lines+markers",
      line: { color: BLUE, width: 5 }, marker: { color: BLUE, size: 9 },
      hovertemplate: `${row.model}<br>rank ${Report.rank(row)}, ties ${row.standing.letters}<extra></extra>`,
    }));
    const letters = {
      x: ranked.map((row) => row.standing.worst), y: ranked.map((row) => row.model), xaxis: "x2", mode: "text",
      text: ranked.map((row) => `&nbsp;&nbsp;${row.standing.letters}`), textposition: "middle right",
      hoverinfo: "skip", cliponaxis: false,
    };
    // the second axis is there for ranks alone: its ground would lie over points that have the whole width
    const right = ranked.length ? { xaxis2: { domain: [0.66, 1], title: { text: "rank" }, range: [0.5, ranked.length + 0.9],
      tick0: 1, dtick: Math.max(1, Math.ceil(ranked.length / 6)) } } : {};
    Plotly.react("ranks", ranked.length ? [values, ...ranks, letters] : [values], layout({
      height: 90 + 28 * names.length,
      margin: { l: 8, r: 30, t: 8, b: 48 },
      xaxis: { domain: [0, ranked.length ? 0.58 : 1], title: { text: "pcc_gene" }, zeroline: true, nticks: 5 },
      ...right,
      yaxis: { automargin: true, categoryorder: "array", categoryarray: names, range: [-0.6, names.length - 0.4] },
    }), SETTINGS);
  };

  // Ticks of a logarithmic axis: 1, 2, 5 of each decade, or decades alone where those would be crowded.
  Report.ticks = (low, high) => {
    const make = (steps) => {
      const out = [];
      for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e += 1)
        for (const s of steps) {
          const value = s * 10 ** e;
          if (value >= low / 1.5 && value <= high * 1.5) out.push(Number(value.toPrecision(2)));
        }
      return out;
    };
    const fine = make([1, 2, 5]);
    return fine.length <= 6 ? fine : make([1]);
  };

  const short = (v) => (v >= 1e6 ? `${v / 1e6} M` : v >= 1e3 ? `${v / 1e3} k` : `${v}`);

  // Names above and below in turn, so that neighbours along the axis keep apart.
  const sides = (x) => {
    const order = [...x.keys()].sort((a, b) => x[a] - x[b]);
    return x.map((_, i) => (order.indexOf(i) % 2 ? "bottom center" : "top center"));
  };

  const known = (job, kind) => whole(job).filter((row) => row.cost[kind] > 0);

  Report.costs = (job) => {
    const select = document.getElementById("cost-kind");
    const there = COSTS.filter(([kind]) => known(job, kind).length > 0);
    Report.options(select, there);
    const draw = () => {
      const kind = select.value;
      const rows = known(job, kind);
      const x = rows.map((row) => row.cost[kind]);
      const ticks = rows.length ? Report.ticks(Math.min(...x), Math.max(...x)) : [];
      Plotly.react("cost", [{
        x, y: rows.map((row) => row.pcc.value), type: "scatter", mode: "markers+text",
        marker: { color: rows.map(colour), size: 10, symbol: rows.map((r) => (r.ranked ? "circle" : "diamond-open")) },
        text: rows.map((row) => row.model), textposition: sides(x), cliponaxis: false,
        customdata: rows.map((row) => `${interval(row)}<br>${there.find(([k]) => k === kind)[1]}: ${Report.big(row.cost[kind])}`),
        hovertemplate: "%{customdata}<extra></extra>",
      }], layout({
        height: 400,
        margin: { l: 60, r: 30, t: 24, b: 52 },
        xaxis: { type: "log", title: { text: (there.find(([k]) => k === kind) || ["", ""])[1] },
          tickvals: ticks, ticktext: ticks.map(short), range: rows.length
            ? [Math.log10(Math.min(...x)) - 0.25, Math.log10(Math.max(...x)) + 0.25] : undefined },
        yaxis: { title: { text: "pcc_gene" }, nticks: 6 },
      }), SETTINGS);
    };
    select.onchange = draw;
    draw();
  };

  const mean = (values) => {
    const there = values.filter((v) => v !== null && v !== undefined);
    return there.length ? there.reduce((a, b) => a + b, 0) / there.length : null;
  };

  // One point a gene: its ceiling and the model's correlation on one slide, or their means over the slides
  // that measure it; over all that score it where none does.
  const points = (scatter, model, slide) => {
    const parts = slide === "" ? Object.values(scatter.slides) : [scatter.slides[slide]];
    return scatter.genes.map((gene, i) => {
      const scored = parts.filter((p) => p.pcc[model] && p.pcc[model][i] !== null);
      const seen = scored.filter((p) => p.measurable[i]);
      const used = seen.length ? seen : scored;
      return {
        name: scatter.names[i],
        ceiling: mean(used.map((p) => p.ceiling[i])),
        low: mean(used.map((p) => p.low[i])),
        high: mean(used.map((p) => p.high[i])),
        measurable: seen.length > 0,
        slides: used.length,
        pcc: mean(used.map((p) => p.pcc[model][i])),
      };
    }).filter((point) => point.pcc !== null);
  };

  const trace = (found, measurable) => {
    const chosen = found.filter((p) => p.measurable === measurable && (p.ceiling !== null || !measurable));
    return {
      x: chosen.map((p) => p.ceiling ?? 0), y: chosen.map((p) => p.pcc), type: "scatter",
      mode: "markers", name: measurable ? "measurable" : "no measurable signal",
      marker: { color: measurable ? BLUE : ORANGE, size: 7, opacity: 0.75, symbol: measurable ? "circle" : "circle-open" },
      text: chosen.map((p) => `${p.name}<br>pcc ${Report.number(p.pcc)}, ceiling ${Report.number(p.ceiling)}` +
        ` (${Report.number(p.low)} to ${Report.number(p.high)}), ${p.slides} slide${p.slides === 1 ? "" : "s"}` +
        (measurable ? "" : "<br>no measurable signal")),
      hovertemplate: "%{text}<extra></extra>",
    };
  };

  Report.genes = (job) => {
    const [model, slide] = ["gene-model", "gene-slide"].map((id) => document.getElementById(id));
    const { scatter } = job;
    Report.options(model, scatter.models.map((name) => [name, name]));
    const slides = Object.keys(scatter.slides);
    Report.options(slide, [...(slides.length > 1 ? [["", `mean of ${slides.length} slides`]] : []), ...slides.map((s) => [s, s])]);
    const draw = () => {
      const found = points(scatter, model.value, slide.value);
      const line = { x: [0, 1], y: [0, 1], mode: "lines", line: { color: GREY, dash: "dot" }, hoverinfo: "skip" };
      Plotly.react("genes", [line, trace(found, true), trace(found, false)], layout({
        height: 460,
        xaxis: { title: { text: "ceiling of the gene" }, range: [-0.02, 1.02], nticks: 6 },
        yaxis: { title: { text: `pcc_gene of ${model.value}` }, nticks: 7, zeroline: true },
      }), SETTINGS);
    };
    model.onchange = draw;
    slide.onchange = draw;
    draw();
  };
})();
