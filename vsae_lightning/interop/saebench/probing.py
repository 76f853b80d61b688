"""SAEBench's own sparse_probing_sae_probes, of a subject of ours."""
