/* Histograms, small enough to need no library: a feature's page is there at once. */
"use strict";

(function () {
  const NAMESPACE = "http://www.w3.org/2000/svg";

  function shape(tag, attributes, title) {
    const element = document.createElementNS(NAMESPACE, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (title) {
      const child = document.createElementNS(NAMESPACE, "title");
      child.textContent = title;
      element.append(child);
    }
    return element;
  }

  function bar(index, height, tone, title) {
    const group = shape("g", { class: `bar ${tone}` }, title);
    // The whole column answers to the pointer, however low its bar is.
    group.append(shape("rect", { class: "column", x: index, y: 0, width: 1, height: 100 }));
    group.append(shape("rect", { x: index + 0.06, y: 100 - height, width: 0.88, height }));
    return group;
  }

  /** A histogram as <figure>: counts[i] between edges[i] and edges[i + 1].
   *  name: what it is of; unit: what is counted; show(x): an edge in words; tone(i): a class of report.css for a bar;
   *  beyond: { count, largest } of values that the axis is too short for, which the bars at its ends count too. */
  report.bars = function ({ edges, counts, name, unit, show = report.number, tone = () => "", beyond = null }) {
    const highest = Math.max(1, ...counts);
    const from = show(edges[0]);
    const to = show(edges[edges.length - 1]);
    const svg = shape("svg", { viewBox: `0 0 ${counts.length} 100`, preserveAspectRatio: "none", role: "img" });
    svg.setAttribute("aria-label", `Histogram of ${name}, from ${from} to ${to}; highest: ${report.number(highest)} ${unit}`);
    counts.forEach((count, index) => {
      const title = `${show(edges[index])} to ${show(edges[index + 1])}: ${report.number(count)} ${unit}`;
      svg.append(bar(index, (100 * count) / highest, tone(index), title));
    });
    const axis = report.element("figcaption", {},
      report.element("span", {}, from), report.element("span", {}, name), report.element("span", {}, to));
    const cut = beyond && report.element("p", { class: "note" },
      `The axis is cut: ${report.number(beyond.count)} ${unit} lie beyond, up to ${show(beyond.largest)}; the outermost bars count them.`);
    return report.element("figure", { class: "bars" }, svg, ...[axis, cut].filter(Boolean));
  };
})();
