/* The overview. */
"use strict";

report.start("index", () => {});
