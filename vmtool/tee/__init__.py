"""Trusted execution environments: what each is called, needs and shows."""
