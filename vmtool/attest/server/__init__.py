"""Asking a server for evidence of what it runs in, and what its answer is."""
