"""Evidence of what this guest runs in, asked of its own kernel. Standard library only: it runs beside the model."""
