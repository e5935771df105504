"""One thing that the lint has to say about a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# error: it will not start, or would not be what was asked for; warning: it starts, and something is not as it seems;
# note: worth knowing.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Finding:
    """A finding.

    Args:
        id: stable and dotted; the part before the dot is its family.
        place: file and line, "configuration.toml:12"; the file alone when no line can be named.
        key: "section.key", or empty when it is about the whole file.
        hint: what to change.
    """

    id: str
    severity: Severity
    place: str
    key: str
    message: str
    hint: str
