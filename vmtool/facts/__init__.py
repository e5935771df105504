"""What is there: read-only looks at the machine, each a function `read_*(reader)` that returns a frozen type."""
