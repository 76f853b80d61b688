/* The table of all features: found by token, narrowed by ranges, sorted by any column. */
"use strict";

(function () {
  const ROWS = 50;
  const SHOWN_TOKENS = 5;
  const OTHER_ENTRIES = ["q", "alive", "sort", "up", "page"];
  const $ = (id) => document.getElementById(id);

  let columns, vocabulary, byKey, everything;
  let view = null; // {q, alive, sort, up, page, ranges: [{key, from, to}]}: what the address says
  let found = []; // the features of the view, in its order

  /* The view and the address. A range is an entry such as density=0.001..0.1, either end of which may be missing. */

  function viewOfAddress() {
    const state = report.state();
    const ranges = [];
    for (const [key, text] of state) {
      if (OTHER_ENTRIES.includes(key) || !byKey.has(key)) continue;
      const [from, to] = text.split("..");
      ranges.push({ key, from, to: to || "" });
    }
    const sort = byKey.has(state.get("sort")) ? state.get("sort") : "";
    const page = Math.max(0, Number.parseInt(state.get("page"), 10) - 1 || 0);
    return { q: state.get("q") || "", alive: state.has("alive"), sort, up: state.has("up"), page, ranges };
  }

  function rememberView() {
    const entries = {
      q: view.q, alive: view.alive ? 1 : "", sort: view.sort, up: view.up ? 1 : "", page: view.page ? view.page + 1 : "",
    };
    for (const { key, from, to } of view.ranges) if (from || to) entries[key] = `${from}..${to}`;
    report.setState(entries);
  }

  /* Which features, and in which order. */

  const bound = (text, missing) => (text === "" || Number.isNaN(Number(text)) ? missing : Number(text));

  function inRange({ key, from, to }) {
    if (!from && !to) return () => true;
    const { values } = byKey.get(key);
    const low = bound(from, -Infinity);
    const high = bound(to, Infinity);
    return (feature) => values[feature] !== null && values[feature] >= low && values[feature] <= high;
  }

  function find() {
    const tests = view.ranges.map(inRange);
    if (view.alive) tests.push((feature) => byKey.get("density").values[feature] > 0);
    const named = view.q.trim() ? report.search(columns, vocabulary, view.q) : everything;
    found = named.filter((feature) => tests.every((test) => test(feature)));
    if (view.sort) found.sort(order(byKey.get(view.sort), view.up ? 1 : -1));
    view.page = Math.min(view.page, Math.max(0, Math.ceil(found.length / ROWS) - 1));
  }

  /** What is not known comes last either way; equals stay in the order of their numbers. */
  function order({ values, kind }, sign) {
    const compare = kind === "category" ? (a, b) => String(a).localeCompare(String(b)) : (a, b) => a - b;
    return (first, second) => {
      const [a, b] = [values[first], values[second]];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * compare(a, b);
    };
  }

  /* The table. */

  function header({ key, name, help, kind }) {
    const sorted = view.sort === key;
    const arrow = sorted ? report.element("span", { "aria-hidden": "true" }, view.up ? " ↑" : " ↓") : null;
    const button = report.element("button", { type: "button", title: help, "data-key": key, click: () => sortBy(key) }, name, arrow);
    return report.element("th", {
      scope: "col",
      class: kind === "category" ? null : "number",
      "aria-sort": sorted ? (view.up ? "ascending" : "descending") : null,
    }, button);
  }

  function showHead() {
    const row = report.element("tr", {},
      report.element("th", { scope: "col", "aria-sort": view.sort ? null : "ascending" },
        report.element("button", { type: "button", title: "In the order of the dictionary", click: () => sortBy("") }, "feature")),
      report.element("th", { scope: "col" }, "fires on"),
      ...columns.columns.map(header),
      columns.promoted && report.element("th", { scope: "col" }, "promotes"));
    document.querySelector("thead").replaceChildren(row);
  }

  const tokens = (ids) => report.element("div", { class: "tokens" },
    ...ids.slice(0, SHOWN_TOKENS).map((id) => report.token(vocabulary, id)));

  function cell({ key, kind, values }, feature) {
    const value = values[feature];
    const content = key === "nearest" && value !== null ? report.featureLink(value) : report.number(value);
    return report.element("td", { class: kind === "category" ? null : "number" }, content);
  }

  function showRows() {
    const rows = found.slice(view.page * ROWS, (view.page + 1) * ROWS).map((feature) => report.element("tr", {},
      report.element("th", { scope: "row" }, report.featureLink(feature)),
      report.element("td", {}, tokens(columns.top_tokens[feature])),
      ...columns.columns.map((column) => cell(column, feature)),
      columns.promoted && report.element("td", {}, tokens(columns.promoted[feature]))));
    document.querySelector("tbody").replaceChildren(...rows);
  }

  function showCount() {
    const pages = Math.max(1, Math.ceil(found.length / ROWS));
    $("count").textContent =
      `${report.number(found.length)} of ${report.number(everything.length)} features, page ${view.page + 1} of ${pages}`;
    for (const button of document.querySelectorAll("[data-turn]")) {
      const page = view.page + Number(button.dataset.turn);
      button.disabled = page < 0 || page >= pages;
    }
  }

  function show() {
    find();
    rememberView();
    showHead();
    showRows();
    showCount();
  }

  function change(entries) {
    Object.assign(view, { page: 0 }, entries);
    show();
  }

  function sortBy(key) {
    change({ sort: key, up: view.sort === key && key !== "" && !view.up });
    // The head is drawn anew: the keyboard stays where it was.
    const button = document.querySelector(key ? `thead [data-key="${CSS.escape(key)}"]` : "thead button");
    button.focus({ preventScroll: true });
  }

  /* The controls. */

  function rangeRow(range) {
    const numeric = columns.columns.filter((column) => column.kind !== "category");
    const options = numeric.map(({ key, name }) => report.element("option", { value: key, selected: key === range.key }, name));
    const update = (entry) => (event) => { range[entry] = event.target.value.trim(); change({}); };
    const field = (entry, name) => report.element("label", {}, name,
      report.element("input", { type: "text", inputmode: "decimal", size: 8, value: range[entry], input: update(entry) }));
    return report.element("div", { class: "range", role: "group", "aria-label": "Range of a column" },
      report.element("label", {}, "Column", report.element("select", { change: update("key") }, ...options)),
      field("from", "from"), field("to", "to"),
      report.element("button", { type: "button", click: () => removeRange(range) }, "Remove"));
  }

  const showRanges = () => $("ranges").replaceChildren(...view.ranges.map(rangeRow));

  function addRange() {
    view.ranges.push({ key: columns.columns.find((column) => column.kind !== "category").key, from: "", to: "" });
    showRanges();
    document.querySelector("#ranges .range:last-child select").focus();
  }

  function removeRange(range) {
    view.ranges = view.ranges.filter((other) => other !== range);
    showRanges();
    change({});
    $("add").focus();
  }

  function turn(event) {
    view.page += Number(event.currentTarget.dataset.turn);
    show();
    document.querySelector("table").scrollIntoView({ block: "start" });
  }

  function showAddress() {
    view = viewOfAddress();
    $("query").value = view.q;
    $("alive").checked = view.alive;
    showRanges();
    show();
  }

  report.start("features", async function () {
    [columns, vocabulary] = await Promise.all([report.load("columns"), report.load("vocabulary")]);
    byKey = new Map(columns.columns.map((column) => [column.key, column]));
    everything = columns.top_tokens.map((_, feature) => feature);
    $("query").addEventListener("input", (event) => change({ q: event.target.value }));
    $("alive").addEventListener("change", (event) => change({ alive: event.target.checked }));
    $("add").addEventListener("click", addRange);
    for (const button of document.querySelectorAll("[data-turn]")) button.addEventListener("click", turn);
    $("meanings").append(report.meanings(columns.columns));
    window.addEventListener("hashchange", showAddress);
    showAddress();
  });
})();
