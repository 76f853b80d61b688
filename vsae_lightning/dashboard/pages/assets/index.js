/* The overview: what was trained, how well, and how to do it again. */
"use strict";

(function () {
  const DENSE = -1; // log10: a feature that fires in over a tenth of all rows
  const BINS = 40;

  const section = (id, title, ...content) => report.element("section", { "aria-labelledby": id },
    report.element("h2", { id }, title), ...content);

  function lead(manifest, { text }) {
    const kind = manifest.kind === "VSAE" ? "variational sparse autoencoder" : "sparse autoencoder";
    const share = text.held_out_rows === text.rows ? "all" : report.number(text.held_out_rows);
    const held = text.held_out_rows ? `, ${share} of them from documents held out of training` : "";
    return report.element("p", { class: "lead" },
      `A ${kind} of ${report.number(manifest.d_sae)} features, looked at on ${report.number(text.rows)} activations${held}, ` +
      `in contexts of ${report.number(text.context_length)} tokens.`);
  }

  function warnings({ warnings = [] }) {
    if (!warnings.length) return null;
    return report.element("ul", { class: "note warnings" }, ...warnings.map((line) => report.element("li", {}, line)));
  }

  function numbers({ numbers }) {
    const sources = [...new Set(numbers.map((number) => number.source || ""))];
    const groups = sources.flatMap((source) => {
      const own = numbers.filter((number) => (number.source || "") === source);
      const shown = own.map(({ name, value, help }) => ({ name, value: report.number(value), help }));
      return [source && report.element("h3", {}, source), report.facts(shown)].filter(Boolean);
    });
    return section("numbers", "In numbers", ...groups, report.meanings(numbers));
  }

  function density({ density, text }) {
    const bars = report.bars({
      ...density,
      name: "density: share of rows where a feature fires",
      unit: "features",
      show: (edge) => report.number(10 ** edge),
      tone: (index) => (density.edges[index] >= DENSE ? "dense" : ""),
    });
    const dead = report.element("a", { href: "features.html#density=..0" }, `${report.number(density.dead)} dead`);
    const dense = report.element("a", { href: "features.html#density=0.1..&sort=density" }, `${report.number(density.dense)} dense`);
    const note = report.element("p", { class: "note" },
      dead, `: never in ${report.number(text.rows)} rows. `, dense, ": in over a tenth of the rows.");
    return section("density", "How often features fire", bars, note);
  }

  /** Counts of whole numbers as {edges, counts}: a bar for each, or for a few together where there are many. */
  function binned({ values, counts }) {
    const low = Math.min(...values);
    const width = Math.ceil((Math.max(...values) - low + 1) / BINS);
    const bins = Math.ceil((Math.max(...values) - low + 1) / width);
    const sums = new Array(bins).fill(0);
    values.forEach((value, index) => { sums[Math.floor((value - low) / width)] += counts[index]; });
    return { edges: Array.from({ length: bins + 1 }, (_, bin) => low + bin * width), counts: sums };
  }

  function sparsity({ l0 }) {
    if (!l0.values.length) return null;
    return section("l0", "How many features fire at once",
      report.bars({ ...binned(l0), name: "L0: features that fire in a row", unit: "rows" }));
  }

  /** Curves that differ in what stands before the / (train, val) share a chart. */
  function charts(curves) {
    const groups = new Map();
    for (const curve of curves) {
      const name = curve.name.split("/").pop();
      groups.set(name, [...(groups.get(name) || []), curve]);
    }
    return [...groups];
  }

  function training({ curves }) {
    if (!curves.length) return null;
    const grid = report.element("div", { class: "charts" });
    for (const [name, group] of charts(curves)) grid.append(chartFrame(name, group));
    return section("training", "Training", grid);
  }

  function chartFrame(name, group) {
    const last = group.map((curve) => `${curve.name} ends at ${report.number(curve.values[curve.values.length - 1])}`);
    const plot = report.element("div", { class: "plot", role: "img", "aria-label": `${name} over tokens: ${last.join("; ")}` });
    plot.curves = group;
    return report.element("figure", {}, report.element("figcaption", {}, name), plot);
  }

  function drawing(group) {
    const traces = group.map(({ name, tokens, values }) => ({
      x: tokens, y: values, name: name.split("/")[0], type: "scatter", mode: tokens.length > 1 ? "lines" : "markers", line: { width: 1.6 },
    }));
    const layout = {
      height: 190,
      margin: { t: 6, r: 8, b: 36, l: 44 },
      showlegend: group.length > 1,
      legend: { orientation: "h", y: 1, yanchor: "top", x: 1, xanchor: "right" },
      xaxis: { title: { text: "tokens" }, showgrid: false, fixedrange: true },
      yaxis: { fixedrange: true },
      hovermode: "x",
    };
    return { traces, layout };
  }

  async function drawCharts(main) {
    for (const plot of main.querySelectorAll(".charts .plot")) {
      await report.plot(plot, () => drawing(plot.curves), { displayModeBar: false });
    }
  }

  function run({ run, made }) {
    const made_by = Object.entries(made).map(([name, value]) => ({ name, value: String(value) }));
    return section("run", "The run", report.facts([...run, ...made_by]));
  }

  function reproduction({ config, reproduce }) {
    return section("reproduce", "How to reproduce it",
      report.element("pre", { tabindex: "0", "aria-label": "Commands" }, reproduce.join("\n")),
      report.element("details", {}, report.element("summary", {}, "The config"),
        report.element("pre", { tabindex: "0", "aria-label": "Config" }, config)));
  }

  report.start("index", async function (manifest) {
    const overview = await report.load("overview");
    const main = document.querySelector("main");
    const halves = [density(overview), sparsity(overview)].filter(Boolean);
    const parts = [lead(manifest, overview), warnings(overview), numbers(overview), report.element("div", { class: "halves" }, ...halves),
      training(overview), run(overview), reproduction(overview)];
    main.append(...parts.filter(Boolean));
    // Not awaited: the page is of use before plotly is read.
    drawCharts(main).catch((error) => report.error(error.message));
  });
})();
