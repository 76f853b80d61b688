/* The maps: features or samples, coloured by what matters, searched, and told group by group and in a list. */
"use strict";

(function () {
  const ROWS = 25;
  const { DIM, PLAIN, MARKED } = report.ranks;
  const $ = (id) => document.getElementById(id);

  let manifest, columns, vocabulary, scatter;
  let map, points; // the data of the map that is shown, and what lies on it
  let colour, shades, grouping; // by what it is coloured, how, and which groups stand beside it
  let listed = ROWS;
  const view = { map: "", colour: "", q: "", group: "" }; // what the address says; where one looks is the scatter's

  /* The address. */

  let address = ""; // as it was last read or written

  const names = () => [...manifest.has.maps, ...(manifest.has.samples ? ["samples"] : [])];

  function readAddress() {
    address = window.location.hash;
    const state = report.state();
    view.map = names().includes(state.get("map")) ? state.get("map") : names()[0];
    for (const key of ["colour", "q", "group"]) view[key] = state.get(key) || "";
    const [x, y, zoom] = (state.get("at") || "").split(",").map(Number);
    return [x, y, zoom].every(Number.isFinite) ? { x, y, zoom } : {};
  }

  function writeAddress() {
    if (window.location.hash !== address) return; // another one was given meanwhile, and is about to be read
    const { x, y, zoom } = scatter.view();
    const isWhole = x === 0 && y === 0 && zoom === 1;
    const at = isWhole ? "" : [x, y, zoom].map((value) => Number(value.toPrecision(4))).join(",");
    report.setState({ ...view, map: view.map === names()[0] ? "" : view.map, at });
    address = window.location.hash;
  }

  /* The map. */

  const isAsked = (name) => $("map").value === name;

  async function load(name) {
    if (name === "samples") return report.load(name);
    return report.load(`maps/${name}`);
  }

  async function showMap(look) {
    $("map").value = view.map;
    const name = view.map;
    map = await load(name);
    if (!isAsked(name)) return; // who has chosen another one meanwhile sees that
    points = name === "samples" ? report.samplePoints(map, vocabulary) : report.featurePoints(map, columns, vocabulary);
    $("how").textContent = `${report.number(points.x.length)} ${points.noun}; ${report.sentence(map.how)}`;
    $("colour").replaceChildren(...points.colours.map(({ key, name }) => report.element("option", { value: key }, name)));
    $("query").value = view.q;
    showNumbers();
    scatter.look(look);
    recolour();
  }

  function recolour() {
    colour = points.colours.find(({ key }) => key === view.colour) || points.colours[0];
    $("colour").value = colour.key;
    shades = report.shades(colour.kind, colour.values);
    const groups = colour.kind === "category" ? colour : points.colours.find(({ key }) => key === "cluster");
    grouping = groups ? groupingOf(groups) : null;
    showLegend();
    mark();
  }

  /** {name, groups, palette(), typical: tokens of each}; made once. */
  function groupingOf(groups) {
    if (!groups.grouping) {
      const { groups: found, palette } = report.shades("category", groups.values);
      groups.grouping = { name: groups.name, groups: found, palette, typical: report.typicalTokens(points, found) };
    }
    return groups.grouping;
  }

  /** Which points stand out: those of a group, and those that were searched for. */
  function mark() {
    const rank = new Uint8Array(points.x.length).fill(PLAIN);
    const group = chosenGroup();
    if (group) {
      rank.fill(DIM);
      for (const i of group.members) rank[i] = PLAIN;
    }
    const found = view.q.trim() ? points.search(view.q).filter((i) => rank[i] !== DIM) : null;
    if (found) {
      rank.fill(DIM);
      for (const i of found) rank[i] = MARKED;
    }
    $("count").textContent = found ? `${report.number(found.length)} found` : "";
    points.rank = rank;
    show();
    showGroups();
    listed = ROWS;
    settle();
  }

  function show() {
    scatter.show({ ...points, shade: shades.shade, palette: shades.palette() });
    scatter.label(`Map of ${report.number(points.x.length)} ${points.noun}, coloured by ${colour.name}. Those in view are listed below.`);
  }

  function card(i) {
    const known = [points.colours[0], ...(colour === points.colours[0] ? [] : [colour])];
    return report.element("div", {}, ...points.card(i),
      report.facts(known.map(({ name, values }) => ({ name, value: value(values[i]) }))));
  }

  const value = (x) => (typeof x === "string" ? report.element("bdi", {}, report.visible(x)) : report.number(x));

  function open(i, aside) {
    const address = points.address(i);
    if (address && aside) window.open(address, "_blank", "noopener");
    else if (address) window.location.href = address;
    return address !== null;
  }

  /* The legend and the groups. */

  const swatch = (shade, palette) => {
    const element = report.element("span", { class: "swatch", "aria-hidden": "true" });
    element.style.background = report.css(palette[shade]);
    return element;
  };

  function showLegend() {
    const isScale = colour.kind !== "category";
    $("legend").hidden = !isScale;
    if (!isScale) return;
    const palette = shades.palette();
    const bar = report.element("div", { class: "ramp", "aria-hidden": "true" });
    bar.style.background = `linear-gradient(to right, ${palette.slice(0, -1).map(report.css).join(", ")})`;
    const missing = shades.missing === 0 ? null : report.element("p", { class: "note" }, swatch(palette.length - 1, palette),
      ` not known of ${report.number(shades.missing)}`);
    $("legend").replaceChildren(
      report.element("h2", {}, colour.name, report.element("span", { class: "note" }, shades.isLog ? " logarithmic" : "")),
      bar,
      report.element("div", { class: "ends" },
        report.element("span", {}, `≤ ${report.number(shades.from)}`), report.element("span", {}, `≥ ${report.number(shades.to)}`)),
      colour.help ? report.element("p", { class: "note" }, colour.help) : "", missing || "");
  }

  const nameOf = (name) => (name === null ? "none" : report.visible(String(name)));
  const chosenGroup = () => grouping && view.group !== "" && grouping.groups.find(({ name }) => nameOf(name) === view.group);

  function groupRow({ name, members, shade }, order) {
    const isOn = nameOf(name) === view.group;
    const palette = grouping.palette();
    const button = report.element("button", {
      type: "button", "aria-pressed": String(isOn), "data-group": nameOf(name), click: () => chooseGroup(isOn ? "" : nameOf(name)),
    }, colour.kind === "category" ? swatch(shade, palette) : null, report.element("bdi", {}, nameOf(name)));
    return report.element("tr", {},
      report.element("th", { scope: "row" }, button),
      report.element("td", { class: "number" }, report.number(members.length)),
      report.element("td", {}, report.tokenList(vocabulary, grouping.typical[order])));
  }

  function showGroups() {
    $("groups").hidden = !grouping;
    if (!grouping) return;
    $("groups-title").textContent = `By ${grouping.name}`;
    const heads = [["col", null, grouping.name], ["col", "number", points.noun], ["col", null, "typical tokens"]];
    $("groups-table").replaceChildren(
      report.element("thead", {}, report.element("tr", {}, ...heads.map(([scope, name, text]) => report.element("th", { scope, class: name }, text)))),
      report.element("tbody", {}, ...grouping.groups.map(groupRow)));
  }

  function chooseGroup(name) {
    view.group = name;
    const focused = document.activeElement && document.activeElement.dataset.group;
    mark();
    // The table is drawn anew: the keyboard stays where it was.
    if (focused) document.querySelector(`[data-group="${CSS.escape(focused)}"]`).focus({ preventScroll: true });
  }

  /* What is in view, as a list: the map for those who do not see it. */

  function inView() {
    const isInside = scatter.inside();
    const by = colour.kind === "category" ? points.colours[0] : colour;
    const key = (i) => (by.values[i] === null ? -Infinity : by.values[i]);
    const order = by.kind === "category" ? (a, b) => a - b : (a, b) => key(b) - key(a) || a - b;
    const inside = [];
    for (let i = 0; i < points.x.length; i += 1) if (points.rank[i] !== DIM && isInside(i)) inside.push(i);
    return { by, inside: inside.sort(order) };
  }

  function showList() {
    const { by, inside } = inView();
    const shown = inside.slice(0, listed);
    const shownColours = colour === by ? [by] : [by, colour];
    $("in-view").textContent = `${report.number(inside.length)} of ${report.number(points.x.length)} ${points.noun} in view`
      + (inside.length > shown.length ? `; the ${report.number(shown.length)} with the largest ${by.name}` : "");
    const head = [...points.heads.map((name) => [null, name]), ...shownColours.map(({ name }) => ["number", name])];
    $("list").replaceChildren(
      report.element("thead", {}, report.element("tr", {}, ...head.map(([kind, name]) => report.element("th", { scope: "col", class: kind }, name)))),
      report.element("tbody", {}, ...shown.map((i) => report.element("tr", {},
        ...points.cells(i).map((cell) => report.element("td", {}, cell)),
        ...shownColours.map(({ values }) => report.element("td", { class: "number" }, value(values[i])))))));
    $("more").hidden = inside.length <= shown.length;
  }

  function showNumbers() {
    $("numbers").replaceChildren(report.element("tbody", {}, ...map.numbers.map(({ name, value, help }) =>
      report.element("tr", {}, report.element("th", { scope: "row" }, name),
        report.element("td", { class: "number" }, report.number(value)), report.element("td", { class: "note" }, help)))));
  }

  /** The list and the address follow when the map has come to rest. */
  let resting = 0;
  function settle() {
    window.clearTimeout(resting);
    resting = window.setTimeout(() => { showList(); writeAddress(); }, 120);
  }

  /* The page. */

  /** What goes wrong after the start is shown too. */
  const told = (work) => work.catch((error) => report.error(error.message));

  function build() {
    for (const name of names()) $("map").append(report.element("option", { value: name }, name));
    scatter = report.scatter($("scatter"), { describe: card, open, moved: () => points && settle() });
    const change = (key, follow) => (event) => { view[key] = event.target.value; follow(); };
    $("map").addEventListener("change", change("map", () => { view.group = ""; told(showMap({})); }));
    $("colour").addEventListener("change", change("colour", () => { view.group = ""; recolour(); }));
    $("query").addEventListener("input", change("q", mark));
    $("more").addEventListener("click", () => { listed += ROWS; showList(); });
    document.addEventListener("themechange", () => { showLegend(); showGroups(); show(); });
    window.addEventListener("hashchange", () => told(showMap(readAddress())));
  }

  /** Titles are in the maps' own files, of which only one is needed at first. */
  async function titleChoices() {
    for (const option of $("map").options) option.textContent = (await load(option.value)).title;
  }

  report.start("map", async function (found) {
    manifest = found;
    if (!names().length) throw new Error("This report has no map: vsae analyze --maps.which chooses which there are.");
    [columns, vocabulary] = await Promise.all([report.load("columns"), report.load("vocabulary")]);
    build();
    await showMap(readAddress());
    window.setTimeout(() => told(titleChoices()), 300);
  });
})();
