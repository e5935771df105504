"""Whether a host can do what is wanted of it."""
