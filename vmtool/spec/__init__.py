"""The files that a person writes: runtime.yaml and what it contains."""
