"""Metrics of instances: what the front counts, what the host knows, and what to look at them with."""
