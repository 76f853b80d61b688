"""Autoencoders in the formats of other libraries, read and written; their evaluations, run on ours."""
