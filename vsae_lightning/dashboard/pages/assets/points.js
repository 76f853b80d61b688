/* What lies on a map, features or samples of the text, in one form:
   {x, y, noun: what they are, address(i): of its page, or null, colours: [{key, name, help, kind, values}...],
   typical(i): tokens by which its group is known, search(query): indices, heads and cells(i): of a table,
   card(i): what is told of it} */
"use strict";

(function () {
  const TOKENS = 5;
  const NOT_A_COLOUR = "nearest"; // the number of a feature

  report.tokenList = (vocabulary, ids, most = TOKENS) => report.element("div", { class: "tokens" },
    ...ids.slice(0, most).map((id) => report.token(vocabulary, id)));

  /** With a full stop. */
  report.sentence = (text) => `${report.visible(text).replace(/\.$/, "")}.`;

  const groups = (key, name, values) => ({ key, name, kind: "category", values });

  // One value for all, such as the norm of a decoder's rows, colours nothing.
  const isTelling = ({ values }) => new Set(values).size > 1;

  function columnColours({ columns }, features) {
    return columns.filter(({ key }) => key !== NOT_A_COLOUR)
      .map((column) => ({ ...column, values: features.map((feature) => column.values[feature]) }));
  }

  /** The features of a map. */
  report.featurePoints = function ({ x, y, features, cluster, labels }, columns, vocabulary) {
    const place = new Map(features.map((feature, i) => [feature, i]));
    const colours = [...columnColours(columns, features), groups("cluster", "cluster", cluster)];
    if (labels) colours.push(groups("labels", "probing label", labels));
    const tops = (i) => columns.top_tokens[features[i]];
    return {
      x, y, colours: colours.filter(isTelling),
      noun: "features",
      address: (i) => report.featureAddress(features[i]),
      typical: tops,
      search: (query) => report.search(columns, vocabulary, query).filter((feature) => place.has(feature)).map((feature) => place.get(feature)),
      heads: ["feature", "fires on"],
      cells: (i) => [report.featureLink(features[i]), report.tokenList(vocabulary, tops(i))],
      card: (i) => [
        report.element("a", { href: report.featureAddress(features[i]), class: "name" }, `Feature ${features[i]}`),
        report.tokenList(vocabulary, tops(i)),
      ],
    };
  };

  /** Samples: rows of the text. */
  report.samplePoints = function ({ x, y, cluster, colours, contexts, features }, vocabulary) {
    const peaks = contexts.map(({ tokens, at }) => [tokens[at]]);
    const nothing = contexts.map(() => []);
    const strongest = (i) => report.element("div", { class: "strongest" }, ...features[i].map(([feature, value]) =>
      report.element("span", {}, report.featureLink(feature), ` ${report.number(value)}`)));
    function context(i) {
      const [tokens, at, value] = [contexts[i].tokens, contexts[i].at, features[i].length ? features[i][0][1] : 0];
      return report.tokens(vocabulary, tokens, { values: [[at, value]], max: 2 * Math.abs(value) || 1, at });
    }
    return {
      x, y, colours: [...colours, groups("cluster", "cluster", cluster)].filter(isTelling),
      noun: "samples",
      address: () => null,
      typical: (i) => peaks[i],
      search: (query) => report.search({ top_tokens: contexts.map(({ tokens }) => tokens), promoted: nothing }, vocabulary, query),
      heads: ["text", "strongest features"],
      cells: (i) => [context(i), strongest(i)],
      card: (i) => [context(i), report.element("span", { class: "note" }, "Strongest features"), strongest(i)],
    };
  };

  /** The tokens that tell a group of points from the others: what many of its points have, and few elsewhere. */
  report.typicalTokens = function (points, groups, most = TOKENS) {
    const everywhere = new Map();
    const counted = groups.map(({ members }) => {
      const counts = new Map();
      for (const i of members) {
        for (const token of new Set(points.typical(i))) {
          counts.set(token, (counts.get(token) || 0) + 1);
          everywhere.set(token, (everywhere.get(token) || 0) + 1);
        }
      }
      return counts;
    });
    const weight = ([token, count]) => (count * count) / everywhere.get(token);
    return counted.map((counts) => [...counts].sort((a, b) => weight(b) - weight(a)).slice(0, most).map(([token]) => token));
  };
})();
