"""Why a key did not come."""

from __future__ import annotations

# How the entrypoint's log begins, and an operator's error goes on.
NO_KEY = "no key for the model came from its broker"


class KeyNotReleased(Exception):
    """No key: at which step, why, and what may help. Without any secret."""

    def __init__(self, step: str, why: str, hint: str = "") -> None:
        super().__init__(f"{step}: {why}" + (f" ({hint})" if hint else ""))
        self.step, self.why, self.hint = step, why, hint


def printable(data: bytes | str, most: int = 200) -> str:
    """What a peer said, for a log: one line, bounded, and nothing that steers a terminal."""
    text = data[:4 * most].decode(errors="replace") if isinstance(data, bytes) else data[:4 * most]
    return "".join(char if char.isprintable() else " " for char in text)[:most].strip()
