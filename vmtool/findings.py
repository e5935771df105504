"""A finding: one thing the host has, lacks, or keeps from being seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["ok", "warn", "fail", "not-checked"]
Purpose = Literal["runc", "kata", "libvirt"]
Tee = Literal["none", "virtcca", "snp", "tdx"]
LEVELS: tuple[Level, ...] = get_args(Level)
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
TEES: tuple[Tee, ...] = get_args(Tee)


@dataclass(frozen=True)
class Finding:
    """One line of `vmtool doctor`.

    Args:
        id: stable and dotted; the part before the first dot is its group.
        level: "fail" when the purpose cannot do without it; "not-checked" is never good news.
        title: what was looked at, the same whatever was found.
        detail: what was found.
        hint: a command or an exact change; empty only when the level is ok.
    """

    id: str
    level: Level
    title: str
    detail: str
    hint: str = ""


def finding(id: str, title: str, level: Level, detail: str, hint: str = "") -> Finding:
    """A finding; the hint is dropped when all is well, so that callers need not decide twice."""
    return Finding(id, level, title, detail, "" if level == "ok" else hint)


def size(count: int) -> str:
    """Bytes for a person, in GiB."""
    return f"{count / (1 << 30):.1f} GiB"
