"""A program of the host in a process of its own."""
