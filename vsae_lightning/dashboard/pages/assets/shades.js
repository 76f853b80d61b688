/* Values as colours. Numbers: viridis (Smith & van der Walt 2015), more ink for more, so from its pale end on paper and
   from its dark end on black. Groups: colours that the colour-blind tell apart too, see map.css. */
"use strict";

(function () {
  const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
  const STEPS = 64;
  const GROUPS = 10;
  const SPREAD = 10; // of the 95th over the 5th percentile, from which on a scale is logarithmic

  function ramp() {
    const anchors = report.theme() === "dark" ? VIRIDIS.slice(2) : VIRIDIS.slice(0, 9).reverse();
    const colours = anchors.map(report.rgb);
    return Array.from({ length: STEPS }, (_, step) => {
      const place = (step / (STEPS - 1)) * (colours.length - 1);
      const below = Math.min(colours.length - 2, Math.floor(place));
      return report.between(colours[below], colours[below + 1], place - below);
    });
  }

  const unknown = () => report.rgb(report.colour("group-none"));

  /** Colours of numbers, from the 1st to the 99th percentile; null has a colour of its own, the last. */
  function ofNumbers(values) {
    const known = values.filter((value) => value !== null).sort((a, b) => a - b);
    const quantile = (share) => known[Math.round(share * (known.length - 1))];
    const [from, to] = known.length ? [quantile(0.01), quantile(0.99)] : [0, 0];
    const isLog = from > 0 && quantile(0.95) > SPREAD * quantile(0.05);
    const onScale = isLog ? (value) => Math.log(Math.max(value, from)) : (value) => value;
    const [low, width] = [onScale(from), onScale(to) - onScale(from) || 1];
    const shade = Uint8Array.from(values, (value) => (value === null
      ? STEPS
      : Math.round((STEPS - 1) * Math.min(1, Math.max(0, (onScale(value) - low) / width)))));
    return { shade, from, to, isLog, missing: values.length - known.length, palette: () => [...ramp(), unknown()] };
  }

  /** Colours of groups: the largest have one each, the others that of what has none. */
  function ofGroups(values) {
    const members = new Map();
    values.forEach((value, i) => {
      const name = value === null || value === -1 ? null : value;
      if (!members.has(name)) members.set(name, []);
      members.get(name).push(i);
    });
    const isFirst = (a, b) => b[1].length - a[1].length || String(a[0]).localeCompare(String(b[0]), "en", { numeric: true });
    const named = [...members].filter(([name]) => name !== null).sort(isFirst);
    const groups = [...named, ...[...members].filter(([name]) => name === null)].map(([name, own], order) =>
      ({ name, members: own, shade: name === null ? GROUPS : Math.min(order, GROUPS) }));
    const shade = new Uint8Array(values.length);
    for (const group of groups) for (const i of group.members) shade[i] = group.shade;
    const colours = Array.from({ length: GROUPS }, (_, order) => `group-${order}`);
    return { shade, groups, palette: () => [...colours.map(report.colour).map(report.rgb), unknown()] };
  }

  /** Of one value per point: {shade: index in palette(), palette()}, and with it, by `kind`,
   *  for numbers {from, to, isLog, missing}, for a "category" {groups: [{name, members, shade}...]}. */
  report.shades = (kind, values) => (kind === "category" ? ofGroups(values) : ofNumbers(values));

  report.css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
})();
