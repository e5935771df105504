"""Files, hooks, packages and drivers into an image that exists."""
