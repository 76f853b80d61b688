"""SAEBench's own meta_structure, of a subject of ours."""
