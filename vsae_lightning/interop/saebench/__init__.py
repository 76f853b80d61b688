"""SAEBench's own evaluations of our autoencoders, in an environment that has it (make interop)."""
