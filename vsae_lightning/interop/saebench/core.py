"""SAEBench's own core, of a subject of ours."""
