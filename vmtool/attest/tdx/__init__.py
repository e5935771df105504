"""Intel TDX: quotes, verified by dcap-qvl, and what it leaves to its caller."""
