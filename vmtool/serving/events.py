"""What happens inside, for who reads the log: one line of it with a JSON object, written and read here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

# The engine may have left a line of its own unfinished, so it stands at the end of a line, not at its beginning.
_LINE = re.compile(r"vmtool +\d+\.\d\d s  event (\{.{1,2000}\})$", re.MULTILINE)
# The server has ended with 0, and `spec.restart` takes that for its end.
FINISHED = "server-ended"
NAMES = ("server-died", "server-restarted", "server-given-up", FINISHED, "model-opened", "model-refused",
         "not-hardened", "tls-key")


def event_text(at: float, event: str, **values: object) -> str:
    """What `say` is given.

    Args:
        at: seconds since the epoch.
    """
    return f"event {json.dumps({'at': round(at, 3), 'event': event, **values})}"


def read_events(text: str) -> Iterator[dict[str, Any]]:
    """The events in a log, oldest first. It is untrusted input: whatever runs inside can write such a line."""
    for found in _LINE.finditer(text):
        try:
            event = json.loads(found[1])
        except (ValueError, RecursionError):
            continue
        if event.get("event") in NAMES and _is_time(event.get("at")):
            yield {name: value for name, value in event.items() if isinstance(value, str | int | float)}


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e11  # not nan, either
