"""The commands of `vsae` that train nothing: one file each, with a function whose arguments are the options."""
