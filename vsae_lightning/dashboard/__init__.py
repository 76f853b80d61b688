"""The report: static pages, and the data that they load; of an analysis it knows the results alone."""
