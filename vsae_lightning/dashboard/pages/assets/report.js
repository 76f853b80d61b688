/* What every page needs: its data, its header, and words for numbers. Classic scripts, since file:// allows no modules. */
"use strict";

(function () {
  const PAGES = [
    ["index", "Overview", () => true],
    ["features", "Features", () => true],
    ["map", "Map", (has) => has.maps.length > 0 || has.samples],
    ["compare", "Compare", (has) => has.compare],
  ];
  const scripts = new Map();
  const received = new Map();

  /** Every file of data is a call of this, since file:// allows scripts and no fetch. */
  window.receive = (name, json) => received.set(name, JSON.parse(json));

  /** Run a script of the folder once; resolves when it has run. */
  report.script = function (path) {
    if (!scripts.has(path)) {
      scripts.set(path, new Promise((resolve, reject) => {
        const element = document.createElement("script");
        element.src = path;
        element.onload = resolve;
        element.onerror = () => reject(new Error(`${path} cannot be read: is the folder of the report complete?`));
        document.head.append(element);
      }));
    }
    return scripts.get(path);
  };

  /** The content of data/NAME.js, read once. */
  report.load = async function (name) {
    await report.script(`data/${name}.js`);
    if (!received.has(name)) throw new Error(`data/${name}.js is damaged: write the report anew`);
    return received.get(name);
  };

  report.manifest = () => report.load("manifest");

  /** Show the header and run `build(manifest)`, which may return a promise; what goes wrong is shown on the page. */
  report.start = async function (page, build) {
    const main = document.querySelector("main");
    try {
      const manifest = await report.manifest();
      showHeader(page, manifest);
      await build(manifest);
      main.removeAttribute("aria-busy");
    } catch (error) {
      report.error(error.message);
      throw error;
    }
  };

  /** Say on the page what went wrong. */
  report.error = function (message) {
    const main = document.querySelector("main");
    main.removeAttribute("aria-busy");
    main.prepend(report.element("p", { class: "error", role: "alert" }, message));
  };

  /** An element with attributes and children. Strings become text, never HTML. */
  report.element = function (tag, attributes, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (typeof value === "function") element.addEventListener(name, value);
      else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };

  /** A list of names and values; entries: [{name, value: a string or an element, help}...], help may be missing. */
  report.facts = function (entries) {
    const pairs = entries.map(({ name, value, help }) => report.element("div", {},
      report.element("dt", { title: help }, name), report.element("dd", {}, value)));
    return report.element("dl", { class: "facts" }, ...pairs);
  };

  /** What numbers mean, folded: touch has no hover, so titles are not enough. */
  report.meanings = function (entries) {
    const explained = entries.filter(({ help }) => help).map(({ name, help }) => report.element("div", {},
      report.element("dt", {}, name), report.element("dd", {}, help)));
    return report.element("details", {},
      report.element("summary", {}, "What these numbers are"), report.element("dl", { class: "meanings" }, ...explained));
  };

  /** A number for people: thousands apart, four digits at most, – where it is not known. */
  report.number = function (x) {
    if (x === null || x === undefined) return "–";
    if (typeof x !== "number") return String(x);
    return written(x).replaceAll("-", "−");
  };

  function written(x) {
    const size = Math.abs(x);
    if (Number.isInteger(x)) return x.toLocaleString("en");
    if (size < 1e-3 || size >= 1e6) return Number(x.toPrecision(3)).toExponential();
    return x.toLocaleString("en", { maximumSignificantDigits: 4 });
  }

  /** The address of a feature's page, of this run or of the other one. */
  report.featureAddress = (feature, other) => `feature.html#${other ? "other/" : ""}${feature}`;

  report.featureLink = (feature, other) =>
    report.element("a", { href: report.featureAddress(feature, other), class: "feature" }, String(feature));

  /** What the address says after its #, as URLSearchParams: a view of a page can be linked. */
  report.state = () => new URLSearchParams(window.location.hash.slice(1));

  /** Put it there without a new entry in the history; entries that are empty are left out. */
  report.setState = function (entries) {
    const state = new URLSearchParams(Object.entries(entries).filter(([, value]) => value !== "" && value !== null));
    window.history.replaceState(null, "", `#${state}`);
  };

  function showHeader(page, manifest) {
    document.title = `${document.title} · ${manifest.name}`;
    const shown = PAGES.filter(([, , isThere]) => isThere(manifest.has));
    const links = shown.map(([name, title]) =>
      report.element("a", { href: `${name}.html`, "aria-current": name === page ? "page" : null }, title));
    document.querySelector("header").append(
      report.element("a", { class: "name", href: "index.html" }, report.element("bdi", {}, manifest.name)),
      report.element("nav", { "aria-label": "Pages" }, ...links),
      themeButton(),
    );
  }

  function themeButton() {
    const name = () => (report.theme() === "dark" ? "Light" : "Dark");
    const button = report.element("button", { type: "button", class: "theme", click: report.toggleTheme }, name());
    button.title = "Light or dark";
    document.addEventListener("themechange", () => { button.textContent = name(); });
    return button;
  }

  // The # of an address is a page's state: the link to its content may not change it.
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.querySelector("main").focus();
  });
})();
