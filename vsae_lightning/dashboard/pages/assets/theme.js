/* Light or dark: as the system says, until the reader says otherwise. Runs in the head, before anything is painted. */
"use strict";

window.report = {};

(function () {
  const KEY = "vsae-report-theme";
  const system = window.matchMedia("(prefers-color-scheme: dark)");

  // A page opened from a disk may be refused any storage: then a choice lasts as long as the page.
  function remembered() {
    try {
      return window.localStorage.getItem(KEY);
    } catch (refused) {
      return null;
    }
  }

  function remember(theme) {
    try {
      window.localStorage.setItem(KEY, theme);
    } catch (refused) {
      return;
    }
  }

  function show(theme) {
    document.documentElement.dataset.theme = theme;
    document.dispatchEvent(new Event("themechange"));
  }

  report.theme = () => document.documentElement.dataset.theme;

  report.toggleTheme = function () {
    const theme = report.theme() === "dark" ? "light" : "dark";
    remember(theme);
    show(theme);
  };

  /** The value of a variable of report.css in the present theme: report.colour("accent"). */
  report.colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

  show(remembered() || (system.matches ? "dark" : "light"));
  system.addEventListener("change", () => remembered() || show(system.matches ? "dark" : "light"));
})();
