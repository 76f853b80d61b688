/* The feature page. */
"use strict";

report.start("feature", () => {});
