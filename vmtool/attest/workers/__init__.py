"""Programs of their own: what evidence must show, and asking a server for it."""
