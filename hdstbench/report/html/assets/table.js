// The score table: built from data.js, sorted by a click on a heading.
"use strict";

const Report = { dash: "–" };

Report.number = (value, digits = 3) =>
  value === null || value === undefined ? Report.dash : value.toFixed(digits).replace("-", "−");

Report.signed = (value) =>
  value === null || value === undefined ? Report.dash : (value > 0 ? "+" : "") + Report.number(value);

Report.element = (tag, text, attributes = {}) => {
  const node = document.createElement(tag);
  if (text !== undefined && text !== null) node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

Report.options = (select, entries) => {
  select.replaceChildren(...entries.map(([value, text]) => Report.element("option", text, { value })));
};

Report.big = (value) => {
  if (value === null || value === undefined) return Report.dash;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  return value >= 1e3 ? `${(value / 1e3).toFixed(1)} k` : `${Math.round(value)}`;
};

(() => {
  const score = (name) => (row) => (row.scores ? row.scores[name] : null);
  const limits = (i) =>
    i && i.low !== null ? `${Report.number(i.low)} to ${Report.number(i.high)}` : Report.dash;
  const spread = (r) => (r.seed_sd == null ? "" : ` (seed sd ${Report.number(r.seed_sd)})`);
  const beside = (r, rows) => { // what a model that sees no image gets
    const blind = rows.find((other) => other.model === "mean" && other.pcc);
    return !blind || !r.pcc || r === blind ? "" : ` (mean ${Report.number(score("pcc_bin")(blind))})`;
  };
  // name, what it is sorted by, what is shown, whether more (1) or less (-1) is better
  const COLUMNS = [
    ["model", (r) => r.model, (r) => r.model + (r.marked ? " ‡" : ""), 0],
    ["pcc_gene", (r) => r.pcc && r.pcc.value, (r) => Report.number(r.pcc && r.pcc.value) + spread(r), 1],
    ["95 %", (r) => r.pcc && r.pcc.low, (r) => limits(r.pcc), 0],
    ["rank", (r) => r.standing && r.standing.best, (r) => Report.rank(r), 0],
    ["ties", (r) => r.standing && r.standing.letters, (r) => (r.standing ? r.standing.letters : Report.dash), 0],
    ["of ceiling", (r) => r.more.share_of_ceiling,
      (r) => (r.more.share_of_ceiling == null ? Report.dash : `${Math.round(100 * r.more.share_of_ceiling)} %`), 0],
    ["over shuffled", (r) => r.over_shuffled && r.over_shuffled.value,
      (r) => Report.signed(r.over_shuffled && r.over_shuffled.value), 0],
    ["hvg50", score("pcc_gene_hvg50"), null, 1],
    ["MSE", score("mse"), null, -1],
    ["MAE", score("mae"), null, -1],
    ["skill", score("mse_skill"), (r) => Report.signed(score("mse_skill")(r)), 1],
    ["pcc_bin", score("pcc_bin"), (r, rows) => Report.number(score("pcc_bin")(r)) + beside(r, rows), 0],
    ["constant", (r) => (r.pcc ? r.constant : null), (r) => (r.pcc ? `${r.constant}` : Report.dash), 0],
    ["fit s / cell", (r) => r.cost.fit_s, (r) => (r.cost.fit_s == null ? Report.dash : r.cost.fit_s.toFixed(1)), 0],
    ["parameters", (r) => r.cost.parameters || null, (r) => Report.big(r.cost.parameters || null), 0],
    ["encoder", (r) => r.encoder, (r) => r.encoder || Report.dash, 0],
    ["flags", (r) => r.flags.join(", "), (r) => r.flags.join(", ") || Report.dash, 0],
  ];
  const TEXT = new Set(["model", "encoder", "flags"]);

  Report.rank = (row) => {
    if (!row.standing) return Report.dash;
    const { best, worst } = row.standing;
    return best === worst ? `${best}` : `${best}–${worst}`;
  };

  const marks = (rows, get, sign) => {
    const ranked = rows.filter((r) => r.ranked && r.pcc && get(r) !== null);
    const values = [...new Set(ranked.map(get))].sort((a, b) => sign * (b - a));
    return ranked.length < 2 ? [] : [values[0], ranked.length > 2 ? values[1] : undefined];
  };

  // The headline stands behind the names.
  const columns = (job) => {
    const first = COLUMNS.find(([name]) => name === job.headline);
    return first ? [COLUMNS[0], first, ...COLUMNS.slice(1).filter((column) => column !== first)] : COLUMNS;
  };

  const cells = (shown, rows, row) =>
    shown.map(([name, get, show, sign]) => {
      const value = get(row);
      const text = !row.pcc && name === "pcc_gene" ? "failed" : show ? show(row, rows) : Report.number(value);
      const cell = Report.element("td", text, TEXT.has(name) ? { class: "text" } : {});
      if (sign !== 0 && row.ranked && row.pcc) {
        const [best, second] = marks(rows, get, sign);
        if (value === best) cell.classList.add("best");
        else if (value === second) cell.classList.add("second");
      }
      return cell;
    });

  const order = (rows, get, down) => {
    const known = (row) => { const v = get(row); return v === null || v === undefined || v === "" ? null : v; };
    return [...rows].sort((a, b) => {
      const [x, y] = [known(a), known(b)];
      if (x === null || y === null) return (x === null) - (y === null); // what is not known comes last
      const way = typeof x === "string" ? x.localeCompare(y) : x - y;
      return down ? -way : way;
    });
  };

  const body = (shown, rows, all, name) => {
    const node = Report.element("tbody", null, name ? { class: name } : {});
    for (const row of rows) {
      const line = Report.element("tr", null, { "data-model": row.model });
      if (row.kind === "control") line.classList.add("control");
      if (!row.pcc) line.classList.add("failed");
      line.append(...cells(shown, all, row));
      node.append(line);
    }
    return node;
  };

  Report.table = (job) => {
    const table = document.getElementById("scores");
    const shown = columns(job);
    const heads = shown.map(([name]) => {
      const head = Report.element("th", null, { scope: "col" });
      if (TEXT.has(name)) head.classList.add("text");
      head.append(Report.element("button", name, { type: "button" }));
      return head;
    });
    const fill = (column, down) => {
      const rows = column === null ? job.rows : order(job.rows, shown[column][1], down);
      table.querySelectorAll("tbody").forEach((old) => old.remove());
      table.append(body(shown, rows.filter((r) => r.kind !== "oracle"), job.rows, ""));
      const oracles = rows.filter((r) => r.kind === "oracle");
      if (oracles.length) table.append(body(shown, oracles, job.rows, "oracles"));
      heads.forEach((head, i) => {
        if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
    };
    heads.forEach((head, i) => {
      head.firstChild.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const first = TEXT.has(shown[i][0]) || shown[i][3] === -1 || shown[i][0] === "rank";
        fill(i, now === null ? !first : now === "ascending");
      });
    });
    const top = Report.element("thead");
    top.append(Report.element("tr"));
    top.firstChild.append(...heads);
    table.replaceChildren(top);
    fill(null, false);
    notes(job);
  };

  const notes = (job) => {
    const lines = [...job.notes];
    for (const row of job.rows) for (const why of row.failed) lines.push(`${row.model}: ${why}`);
    const list = Report.element("ul");
    list.append(...lines.map((line) => Report.element("li", line)));
    document.getElementById("notes").replaceChildren(list);
  };
})();
