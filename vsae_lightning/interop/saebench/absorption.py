"""SAEBench's own absorption, of a subject of ours."""
