/* Two runs side by side: their numbers, both dictionaries on one map, features that match, and those that only one has. */
"use strict";

(function () {
  const ROWS = 25;
  const CONTEXTS = 6;
  const { HIDDEN, DIM, PLAIN, MARKED } = report.ranks;
  const [MINE, OTHER] = [0, 1];
  const $ = (id) => document.getElementById(id);

  let manifest, comparison, scatter, points;
  const runs = []; // of this run and of the other: {name, columns, vocabulary, prefix, only, place: feature -> point}
  const view = { threshold: 0.7, q: "", up: false, pair: null, hidden: [false, false] };
  const listed = { pairs: ROWS, only: [ROWS, ROWS] };
  let found = null; // per run the features that were searched for; null: nothing was

  /* The address. */

  function readAddress() {
    const state = report.state();
    const threshold = Number.parseFloat(state.get("threshold"));
    view.threshold = threshold >= 0 && threshold <= 1 ? threshold : comparison.threshold;
    view.q = state.get("q") || "";
    view.up = state.has("up");
    const pair = (state.get("pair") || "").split("-").map(Number);
    view.pair = comparison.pairs.find(([mine, other]) => mine === pair[0] && other === pair[1]) || null;
  }

  function writeAddress() {
    report.setState({
      threshold: view.threshold === comparison.threshold ? "" : view.threshold,
      q: view.q,
      up: view.up ? 1 : "",
      pair: view.pair && view.pair.slice(0, 2).join("-"),
    });
  }

  /* Words for a feature. */

  const link = (run, feature) => report.featureLink(feature, run === OTHER);
  const tops = (run, feature, most) => report.tokenList(runs[run].vocabulary, runs[run].columns.top_tokens[feature], most);
  const row = (...cells) => report.element("tr", {}, ...cells);
  const cell = (content, name) => report.element("td", { class: name || null }, content);
  const heading = (text, name) => report.element("th", { scope: "col", class: name || null }, text);

  function column(run, key, feature) {
    const known = runs[run].columns.columns.find((one) => one.key === key);
    return known ? known.values[feature] : null;
  }

  /* Numbers. */

  function showNumbers() {
    $("numbers").replaceChildren(
      report.element("thead", {}, row(report.element("td"), ...runs.map(({ name }) => heading(report.element("bdi", {}, name), "number")), heading("what it is"))),
      report.element("tbody", {}, ...comparison.numbers.map(({ name, mine, other, help }) => row(
        report.element("th", { scope: "row" }, name),
        cell(report.number(mine), "number"), cell(report.number(other), "number"), cell(help, "note")))));
  }

  /* The map. */

  function pointsOfBoth() {
    const { mine, x, y, other, x2, y2 } = comparison.map;
    runs[MINE].place = new Map(mine.map((feature, i) => [feature, i]));
    runs[OTHER].place = new Map(other.map((feature, i) => [feature, mine.length + i]));
    const shade = new Uint8Array(mine.length + other.length).fill(OTHER, mine.length);
    const partners = new Map();
    for (const [a, b, cosine] of comparison.pairs) {
      const [one, two] = [runs[MINE].place.get(a), runs[OTHER].place.get(b)];
      if (one !== undefined) partners.set(one, { feature: b, point: two, cosine });
      if (two !== undefined) partners.set(two, { feature: a, point: one, cosine });
    }
    return { x: [...x, ...x2], y: [...y, ...y2], shade, features: [...mine, ...other], partners };
  }

  const matchOf = (i) => {
    const partner = points.partners.get(i);
    return partner && partner.cosine >= view.threshold ? partner : null;
  };

  function partner(i) {
    const match = matchOf(i);
    return match && match.point !== undefined && !view.hidden[points.shade[match.point]] ? match.point : null;
  }

  function describe(i) {
    const run = points.shade[i];
    const feature = points.features[i];
    const match = matchOf(i);
    return report.element("div", {},
      report.element("a", { class: "name", href: report.featureAddress(feature, run === OTHER) },
        `Feature ${feature} of `, report.element("bdi", {}, runs[run].name)),
      tops(run, feature),
      report.facts([
        { name: "density", value: report.number(column(run, "density", feature)) },
        match ? { name: `matches ${match.feature}`, value: report.number(match.cosine) } : { name: "match", value: "none" },
      ]));
  }

  function open(i, aside) {
    const address = report.featureAddress(points.features[i], points.shade[i] === OTHER);
    if (aside) window.open(address, "_blank", "noopener");
    else window.location.href = address;
    return true;
  }

  function showMap() {
    const onlyUnmatched = $("unmatched").checked;
    points.rank = Uint8Array.from(points.features, (feature, i) => {
      const run = points.shade[i];
      if (view.hidden[run]) return HIDDEN;
      if (onlyUnmatched && matchOf(i)) return DIM;
      if (!found) return PLAIN;
      return found[run].has(feature) ? MARKED : DIM;
    });
    scatter.show({ ...points, palette: ["series-1", "series-2"].map(report.colour).map(report.rgb) });
    const [mine, other] = [comparison.map.mine.length, comparison.map.other.length].map(report.number);
    scatter.label(`Map of ${mine} features of this run and ${other} of the other. Pairs and features without a match are listed below.`);
  }

  /* The threshold. */

  /** Pairs fall in cosine: how many are at or above the threshold. */
  function countOfMatches() {
    const { pairs } = comparison;
    let [low, high] = [0, pairs.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[middle][2] >= view.threshold) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  const onlyOf = (run) => runs[run].only.filter(([feature, best]) => best < view.threshold && (!found || found[run].has(feature)));

  function showThreshold() {
    const [count, total] = [countOfMatches(), comparison.pairs.length];
    $("threshold").value = view.threshold;
    $("threshold-value").textContent = view.threshold.toFixed(2);
    const share = total ? `${Math.round((100 * count) / total)} %` : "none";
    $("matches").textContent = `${report.number(count)} of ${report.number(total)} pairs (${share}) have a cosine of at least ${view.threshold.toFixed(2)}`;
  }

  /* Pairs. */

  function pairRow(pair) {
    const [mine, other, cosine] = pair;
    const isChosen = pair === view.pair;
    const show = report.element("button", { type: "button", "aria-pressed": String(isChosen), "data-pair": `${mine}-${other}`,
      "aria-label": `Contexts of ${mine} and ${other}`, click: () => choose(pair) }, "Contexts");
    return row(cell(report.number(cosine), "number"), cell(link(MINE, mine)), cell(tops(MINE, mine, 4)),
      cell(link(OTHER, other)), cell(tops(OTHER, other, 4)), cell(show));
  }

  function showPairs() {
    const matched = comparison.pairs.slice(0, countOfMatches())
      .filter(([mine, other]) => !found || found[MINE].has(mine) || found[OTHER].has(other));
    if (view.up) matched.reverse();
    const shown = matched.slice(0, listed.pairs);
    const sort = report.element("button", { type: "button", click: turnOrder }, "cosine ",
      report.element("span", { "aria-hidden": "true" }, view.up ? "↑" : "↓"));
    const head = report.element("th", { scope: "col", class: "number", "aria-sort": view.up ? "ascending" : "descending" }, sort);
    $("pairs").replaceChildren(
      report.element("thead", {}, row(head, ...runs.flatMap(({ name }) => [heading(report.element("bdi", {}, name)), heading("fires on")]), heading("side by side"))),
      report.element("tbody", {}, ...shown.map(pairRow)));
    $("pairs-title").textContent = `Matched features: ${report.number(matched.length)}`;
    $("more-pairs").hidden = shown.length === matched.length;
  }

  function turnOrder() {
    view.up = !view.up;
    showPairs();
    writeAddress();
    document.querySelector("#pairs [aria-sort] button").focus({ preventScroll: true });
  }

  /* Those that only one has. */

  function showOnly(run) {
    const features = onlyOf(run).sort((a, b) => a[1] - b[1]);
    const shown = features.slice(0, listed.only[run]);
    const id = run === MINE ? "mine" : "other";
    $(`only-${id}-title`).replaceChildren("Only in ", report.element("bdi", {}, runs[run].name), `: ${report.number(features.length)}`);
    $(`only-${id}`).replaceChildren(
      report.element("thead", {}, row(heading("feature"), heading("fires on"), heading("best cosine", "number"))),
      report.element("tbody", {}, ...shown.map(([feature, best]) =>
        row(cell(link(run, feature)), cell(tops(run, feature)), cell(report.number(best), "number")))));
    $(`more-${id}`).hidden = shown.length === features.length;
    // Features that are nearer than the report's own threshold are not in every report.
    const isCut = view.threshold > comparison.threshold && !runs[run].only.some(([, best]) => best >= comparison.threshold);
    $(`note-${id}`).textContent = isCut ? `Only those below ${comparison.threshold.toFixed(2)} are known.` : "";
  }

  /* Side by side. */

  async function shardOf(run, feature) {
    const shard = String(Math.floor(feature / manifest.shard)).padStart(4, "0");
    const { first, features } = await report.load(`${runs[run].prefix}features/${shard}`);
    return features[feature - first];
  }

  async function contextsOf(run, feature) {
    const page = await shardOf(run, feature).catch(() => null);
    const title = report.element("h3", {}, "Feature ", link(run, feature), " of ", report.element("bdi", {}, runs[run].name));
    if (!page) return report.element("div", {}, title, tops(run, feature), report.element("p", { class: "note" }, "It has no page in this report."));
    const max = Math.max(...page.contexts.flatMap(({ values }) => values.map(([, value]) => Math.abs(value))));
    const context = ({ tokens, at, values }) =>
      report.element("li", {}, report.tokens(runs[run].vocabulary, tokens, { values, max, at }));
    return report.element("div", {}, title, report.element("ol", { class: "plain" }, ...page.contexts.slice(0, CONTEXTS).map(context)));
  }

  async function showPair() {
    const pair = view.pair;
    $("pair").hidden = !pair;
    for (const button of document.querySelectorAll("[data-pair]")) {
      button.setAttribute("aria-pressed", String(pair !== null && button.dataset.pair === pair.slice(0, 2).join("-")));
    }
    if (!pair) return;
    const both = await Promise.all([contextsOf(MINE, pair[0]), contextsOf(OTHER, pair[1])]);
    if (pair !== view.pair) return; // another was chosen meanwhile
    $("pair-title").textContent = `Side by side: cosine ${report.number(pair[2])}`;
    $("pair-sides").replaceChildren(...both);
  }

  async function choose(pair) {
    view.pair = pair;
    writeAddress();
    await showPair();
    $("pair").scrollIntoView({ block: "nearest" });
    $("pair-title").focus({ preventScroll: true });
  }

  /* The page. */

  function search() {
    const query = view.q.trim();
    found = query ? runs.map(({ columns, vocabulary }) => new Set(report.search(columns, vocabulary, query))) : null;
    $("count").textContent = found ? found.map(({ size }) => report.number(size)).join(" and ") + " found" : "";
  }

  function show() {
    Object.assign(listed, { pairs: ROWS, only: [ROWS, ROWS] });
    search();
    showThreshold();
    showMap();
    showPairs();
    for (const run of [MINE, OTHER]) showOnly(run);
  }

  let asked = 0;
  /** At most once a frame: a slider is quicker than the eye. */
  function showSoon() {
    window.cancelAnimationFrame(asked);
    asked = window.requestAnimationFrame(() => { show(); writeAddress(); });
  }

  function toggle(run, id) {
    const box = report.element("input", { type: "checkbox", id, checked: true,
      change: (event) => { view.hidden[run] = !event.target.checked; showMap(); } });
    const swatch = report.element("span", { class: `swatch run-${run}`, "aria-hidden": "true" });
    return report.element("label", { class: "inline" }, box, report.element("span", {}, swatch, report.element("bdi", {}, runs[run].name)));
  }

  function build() {
    $("how").textContent = report.sentence(comparison.how);
    $("map-how").textContent = report.sentence(comparison.map.how);
    showNumbers();
    points = pointsOfBoth();
    scatter = report.scatter($("scatter"), { describe, open, partner });
    $("toggles").prepend(toggle(MINE, "show-mine"), toggle(OTHER, "show-other"));
    $("unmatched").addEventListener("change", showMap);
    $("threshold").addEventListener("input", (event) => { view.threshold = Number(event.target.value); showSoon(); });
    $("query").addEventListener("input", (event) => { view.q = event.target.value; showSoon(); });
    $("more-pairs").addEventListener("click", () => { listed.pairs += ROWS; showPairs(); });
    for (const [run, id] of [[MINE, "mine"], [OTHER, "other"]]) {
      $(`more-${id}`).addEventListener("click", () => { listed.only[run] += ROWS; showOnly(run); });
    }
    document.addEventListener("themechange", showMap);
    window.addEventListener("hashchange", showAddress);
  }

  async function showAddress() {
    readAddress();
    $("query").value = view.q;
    show();
    await showPair();
  }

  async function read(name, prefix, only) {
    const [columns, vocabulary] = await Promise.all([report.load(`${prefix}columns`), report.load("vocabulary")]);
    return { name, columns, vocabulary, prefix, only };
  }

  report.start("compare", async function (found) {
    manifest = found;
    if (!manifest.has.compare) throw new Error("This report compares with no other run: vsae analyze --against names one.");
    comparison = await report.load("compare");
    const [mine, other] = comparison.names;
    runs.push(...await Promise.all([read(mine, "", comparison.only_mine), read(other, "other/", comparison.only_other)]));
    build();
    await showAddress();
  });
})();
