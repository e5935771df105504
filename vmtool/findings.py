"""A finding: one thing that an input or the host has, lacks, or keeps from being seen; and refusing what fails."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.frozen import dataclass

Level = Literal["ok", "note", "warn", "fail", "not-checked"]
Fault = Literal["input", "host"]
# What a launch is done by: `spec.runtime.handler`, and what a host is judged for. Each has a launcher.
Handler = Literal["runc", "kata", "libvirt"]
LEVELS: tuple[Level, ...] = get_args(Level)
HANDLERS: tuple[Handler, ...] = get_args(Handler)


@dataclass(frozen=True)
class Finding:
    """What one check found. Decide by `id`, `level` and `fault`; the texts are for a person.

    Args:
        id: stable and dotted; the part before the first dot is its group.
        level: "fail" when it cannot work so; "not-checked" is never good news.
        title: what was checked, the same whatever was found; empty when `detail` says it.
        detail: what was found.
        hint: a command or an exact change; empty only when the level is ok, or when `detail` says it.
        place: where in the input: a key of the spec, or file and line.
        fault: whether the input must be corrected, or the host.
    """

    id: str
    level: Level
    title: str
    detail: str
    hint: str = ""
    place: str = ""
    fault: Fault = "host"

    @property
    def text(self) -> str:
        """Where, what and how, without the hint."""
        return ": ".join(part for part in (self.place, self.title, self.detail) if part)

    def as_json(self) -> dict[str, str]:
        """The part that JSON documents show."""
        return {"id": self.id, "level": self.level, "title": self.title, "detail": self.detail, "hint": self.hint}


def finding(id: str, title: str, level: Level, detail: str, hint: str = "") -> Finding:
    """A finding; the hint is dropped when all is well, so that callers need not decide twice."""
    return Finding(id, level, title, detail, "" if level == "ok" else hint)


def wrong_input(id: str, detail: str, hint: str = "", place: str = "") -> Finding:
    """A reason to refuse the input."""
    return Finding(id, "fail", "", detail, hint, place, "input")


def host_lacks(id: str, detail: str, hint: str = "", place: str = "") -> Finding:
    """A reason why this host cannot do it, or not now."""
    return Finding(id, "fail", "", detail, hint, place, "host")


def from_error(id: str, error: VmtoolError, place: str = "") -> Finding:
    """The finding of a check that ended with an error."""
    return Finding(id, "fail", "", error.message, error.hint, place, "input" if isinstance(error, Refused) else "host")


def failing(findings: Iterable[Finding]) -> list[Finding]:
    """Those that keep it from being done; equal ones once."""
    return [item for item in dict.fromkeys(findings) if item.level == "fail"]


def lines(findings: Iterable[Finding], hint: str = "") -> list[str]:
    """A line for each, with its own hint unless that is the `hint` of them all."""
    return [item.text + (f" ({item.hint})" if item.hint and item.hint != hint else "") for item in findings]


def refuse(findings: Iterable[Finding], what: str, hint: str = "") -> None:
    """Raise what fails, all together: Refused when any of it is the input's fault, else NotReady.

    Args:
        what: what is not done now, such as "nothing was bound".
        hint: for all of them; without one each has its own, and one finding by itself becomes part of the message.
    """
    found = failing(findings)
    if not found:
        return
    kind = Refused if any(item.fault == "input" for item in found) else NotReady
    if hint:
        raise kind(what, details=lines(found, hint), hint=hint)
    if len(found) == 1:
        raise kind(f"{what}: {found[0].text}", hint=found[0].hint)
    raise kind(f"{what}: {len(found)} problems", details=lines(found))


def size(count: int) -> str:
    """Bytes for a person, in GiB."""
    return f"{count / (1 << 30):.1f} GiB"
