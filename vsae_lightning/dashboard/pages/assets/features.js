/* The features page. */
"use strict";

report.start("features", () => {});
