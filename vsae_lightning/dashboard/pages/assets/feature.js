/* One feature: what it fires on, what it does, what is like it. The address says which: #123, or #other/123. */
"use strict";

(function () {
  const EXPECTED = /^(other\/)?(\d+)$/;
  const $ = (id) => document.getElementById(id);

  let manifest;

  const section = (id, title, ...content) => report.element("section", { "aria-labelledby": id },
    report.element("h2", { id }, title), ...content.filter(Boolean));

  function address() {
    const found = EXPECTED.exec(window.location.hash.slice(1) || "0");
    return found && { feature: Number(found[2]), other: Boolean(found[1]) };
  }

  /* Contexts. */

  // Of a posterior the value is the mean; its deviation stands here where it is another one in every context.
  const isPosterior = (columns) => columns.columns.some(({ key }) => key === "sigma");

  function context({ vocabulary, columns }, { tokens, at, values, position, held_out, sigma }, max) {
    const peak = values.find(([index]) => index === at);
    const sampled = sigma === null ? null : report.element("span", {}, `σ ${report.number(sigma)}`);
    const fires = values.map(([index, value]) => `${report.text(vocabulary, [tokens[index]])} ${report.number(value)}`);
    return report.element("li", {},
      report.element("span", { class: "value" }, (isPosterior(columns) ? "μ " : "") + report.number(peak ? peak[1] : null), sampled),
      report.element("span", { class: "excerpt" },
        report.tokens(vocabulary, tokens, { values, max, at }),
        report.element("span", { class: "unseen" }, "Fires on: ", report.element("bdi", {}, fires.join(", ")))),
      report.element("span", { class: "origin", title: `Token ${report.number(position)} of those read` },
        held_out === null ? "" : held_out ? "held out" : "trained on"));
  }

  function contexts(data, { intervals, contexts }) {
    const max = Math.max(...contexts.flatMap(({ values }) => values.map(([, value]) => Math.abs(value))));
    return intervals.flatMap(({ name, from, to }, interval) => {
      const own = contexts.filter((one) => one.interval === interval);
      if (!own.length) return [];
      const range = report.element("span", { class: "interval" }, ` ${report.number(from)} to ${report.number(to)}`);
      return [report.element("h3", {}, name, range),
        report.element("ol", { class: "contexts" }, ...own.map((one) => context(data, one, max)))];
    });
  }

  /* What stands beside them. */

  function ranked(rows, name, unit) {
    return report.element("table", { class: "ranked" },
      report.element("thead", { class: "unseen" }, report.element("tr", {},
        report.element("th", { scope: "col" }, name), report.element("th", { scope: "col" }, unit))),
      report.element("tbody", {}, ...rows.map(([first, value]) => report.element("tr", {},
        report.element("td", {}, first), report.element("td", { class: "number" }, report.number(value))))));
  }

  function logits(id, title, pairs, vocabulary) {
    if (!pairs.length) return null;
    return section(id, title, ranked(pairs.map(([token, value]) => [report.token(vocabulary, token), value]), "token", "logit"));
  }

  function neighbours(id, title, unit, pairs, { columns, vocabulary, other }) {
    if (!pairs.length) return null;
    const name = (feature) => report.element("span", { class: "tokens" },
      report.featureLink(feature, other),
      ...columns.top_tokens[feature].slice(0, 2).map((token) => report.token(vocabulary, token)));
    return section(id, title, ranked(pairs.map(([feature, value]) => [name(feature), value]), "feature", unit));
  }

  function values({ columns }, feature) {
    const entries = columns.columns.map(({ key, name, help, values }) => {
      const value = values[feature];
      const isLink = key === "nearest" && value !== null;
      return { name, help, value: isLink ? report.featureLink(value, address().other) : report.number(value) };
    });
    return [report.facts(entries), report.meanings(columns.columns)];
  }

  function histogram({ histogram }) {
    if (!histogram) return null;
    return section("histogram", "Activations", report.bars({ ...histogram, name: "value where it fires", unit: "rows" }));
  }

  function predicate({ predicate }) {
    if (!predicate) return null;
    const numbers = ["f1", "precision", "recall"].map((key) => ({ name: key === "f1" ? "F1" : key, value: report.number(predicate[key]) }));
    return section("predicate", "Best simple rule",
      report.element("p", {}, report.element("bdi", { class: "rule" }, report.visible(predicate.text))), report.facts(numbers));
  }

  function score(scores, feature) {
    const found = scores && scores.features[feature];
    if (!found) return null;
    const { explanation, detection, fuzzing, examples } = found;
    const numbers = [["detection", detection], ["fuzzing", fuzzing], ["examples", examples]];
    return section("explanation", "Explanation",
      report.element("p", { class: "explanation" }, report.element("bdi", {}, report.visible(explanation))),
      report.facts(numbers.map(([name, value]) => ({ name, value: report.number(value) }))),
      report.element("p", { class: "note" }, "By ", report.element("bdi", {}, scores.how.model),
        ": a language model's guess, scored by how well it tells where the feature fires."));
  }

  /* The page. */

  function whole(data, own) {
    const { vocabulary } = data;
    const fires = own.contexts.length
      ? contexts(data, own)
      : [report.element("p", { class: "note" }, "Dead: it fired on none of the tokens read.")];
    const left = report.element("div", {}, score(data.scores, own.feature), section("contexts", "Contexts", ...fires));
    const right = report.element("div", {},
      histogram(own),
      predicate(own),
      logits("promoted", "Tokens it promotes", own.promoted, vocabulary),
      logits("suppressed", "Tokens it suppresses", own.suppressed, vocabulary),
      neighbours("near-decoder", "Nearest by decoder", "cosine", own.near_decoder, data),
      neighbours("near-firing", "Fires together with", "Jaccard", own.near_firing, data));
    return report.element("div", { class: "columns" }, left, right);
  }

  async function read({ feature, other }) {
    const prefix = other ? "other/" : "";
    const shard = `${prefix}features/${String(Math.floor(feature / manifest.shard)).padStart(4, "0")}`;
    const isDetailed = other || !manifest.detailed || manifest.detailed.includes(feature);
    const [columns, vocabulary, scores, page] = await Promise.all([
      report.load(`${prefix}columns`),
      report.load("vocabulary"),
      manifest.has.scores && !other ? report.load("scores") : null,
      isDetailed && isThere(feature, other) ? report.load(shard) : null,
    ]);
    if (feature >= columns.top_tokens.length) {
      throw new Error(`There is no feature ${feature}: they go from 0 to ${columns.top_tokens.length - 1}.`);
    }
    return { columns, vocabulary, scores, other, own: page && page.features[feature - page.first] };
  }

  // How many the other run has is not in the manifest.
  const isThere = (feature, other) => other || feature < manifest.d_sae;

  function showHeading({ feature, other }, number) {
    $("title").textContent = `Feature ${feature}`;
    $("of").textContent = other ? "Of the run that this one is compared with." : "";
    document.title = `Feature ${feature}${other ? " of the other run" : ""} · ${manifest.name}`;
    $("jump").elements.number.value = feature;
    $("jump").elements.number.max = number - 1;
    for (const [id, target] of [["previous", feature - 1], ["next", feature + 1]]) {
      const isThere = target >= 0 && target < number;
      if (isThere) $(id).href = report.featureAddress(target, other);
      else $(id).removeAttribute("href");
      $(id).setAttribute("aria-disabled", String(!isThere));
    }
  }

  async function show() {
    const asked = address();
    if (!asked) throw new Error(`${window.location.hash} names no feature: write #123, or #other/123.`);
    const data = await read(asked);
    // Who turns pages quickly sees the last one asked for, not the last one read.
    if (window.location.hash && JSON.stringify(address()) !== JSON.stringify(asked)) return;
    showHeading(asked, data.columns.top_tokens.length);
    const body = data.own
      ? [whole(data, data.own)]
      : [report.element("p", { class: "note" }, "This feature was not looked at closely: vsae analyze --features chooses which are.")];
    $("feature").replaceChildren(...values(data, asked.feature), ...body);
  }

  function jump(event) {
    event.preventDefault();
    window.location.hash = `${address()?.other ? "other/" : ""}${event.target.elements.number.value}`;
  }

  report.start("feature", async function (found) {
    manifest = found;
    $("jump").addEventListener("submit", jump);
    window.addEventListener("hashchange", () => {
      document.querySelector(".error")?.remove();
      show().catch((error) => report.error(error.message));
    });
    await show();
  });
})();
