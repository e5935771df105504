"""Programs in a process of their own."""
