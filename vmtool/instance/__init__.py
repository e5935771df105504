"""One launch as its directory records it."""
