"""How long a start may take: fixed numbers fail for somebody, so it follows memory and model size."""

from __future__ import annotations

GIB = 1 << 30


def start_deadline(memory: int, model: int, confidential: bool) -> float:
    """Seconds until /health must answer.

    Args:
        memory: bytes of the instance. A confidential guest accepts and encrypts its memory before it starts.
        model: bytes of weights, read at 100 MiB/s in the worst case that is still thought to be healthy.
    """
    return round(120 + memory / GIB * (4 if confidential else 1) + model / GIB * 10)


def canary_deadline(model: int) -> float:
    """Seconds for one short answer; a first request compiles and warms up."""
    return round(60 + model / GIB * 2)
