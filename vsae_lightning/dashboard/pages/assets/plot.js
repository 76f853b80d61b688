/* Charts of plotly, in the page's colours. Its script is large: it is read when the first chart is asked for. */
"use strict";

(function () {
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["toImage", "sendDataToCloud"] };
  const AXES = /^[xy]axis\d*$/;
  const shown = new Set();

  /** What a layout lacks of the theme; `layout` itself goes before it. */
  function themed(layout) {
    const axis = { gridcolor: report.colour("rule"), linecolor: report.colour("rule"), zerolinecolor: report.colour("rule") };
    const whole = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: report.colour("sans"), size: 12, color: report.colour("muted") },
      hoverlabel: { bgcolor: report.colour("raised"), bordercolor: report.colour("rule"), font: { color: report.colour("ink") } },
      colorway: ["series-1", "series-2", "series-3", "series-4", "series-5", "series-6"].map(report.colour),
      margin: { t: 8, r: 12, b: 40, l: 52 },
      ...layout,
    };
    for (const name of new Set(["xaxis", "yaxis", ...Object.keys(whole).filter((key) => AXES.test(key))])) {
      whole[name] = { ...axis, automargin: true, ...whole[name] };
      if (whole[name].title) whole[name].title = { font: { size: 12 }, standoff: 6, ...whole[name].title };
    }
    return whole;
  }

  /** Draw into an element, which should have a label; `make()` returns {traces, layout} and is called anew for another
   *  theme, so that it may ask for report.colour. Resolves to the element. */
  report.plot = async function (element, make, config) {
    await report.script("assets/plotly.min.js");
    const draw = () => {
      const { traces, layout } = make();
      return window.Plotly.react(element, traces, themed(layout), { ...CONFIG, ...config });
    };
    if (!shown.has(element)) document.addEventListener("themechange", draw);
    shown.add(element);
    await draw();
    return element;
  };
})();
