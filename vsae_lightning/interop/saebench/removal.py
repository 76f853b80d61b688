"""SAEBench's own scr_and_tpp, of a subject of ours."""
