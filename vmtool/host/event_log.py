"""What has happened to an instance, for who looks later: JSON lines in a file of bounded size, and the file before it.

The journal says what must be undone; this says what was, and nothing is decided by it. What happens inside, such as the
restart of a server, stands in the guest's log (`vmtool.serving.events`) and is taken over when that log is removed, to
files of its own: what nobody attests takes no place of what the host saw.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.foreign import open_file, parse_json
from vmtool.paths import SLOTS
from vmtool.serving.events import read_events

# What the host saw, and what guests said; each with the file before it.
NAME, GUEST = "events.jsonl", "guest-events.jsonl"
GUEST_LOG = Path("log") / "guest.log"
GUEST_LOGS = tuple(slot / GUEST_LOG for slot in map(Path, SLOTS))
LARGEST = 1 << 20
# Of the guest's log, which it writes as it likes: bytes at its end that are read, events that are shown, and bytes that
# are taken over at a time.
GUEST_BYTES = 16 << 20
GUEST_MOST = 1000
GUEST_KEPT = 64 << 10

Recorded = dict[str, Any]


def record(directory: Path, event: str, source: str = "vmtool", *, file: str = NAME, **values: object) -> None:
    """Append an event of the subject in `directory`. Nothing may fail for want of it: what cannot be written is lost.

    Args:
        source: who says so: "vmtool", "watch" or "guest".
        file: `NAME` or `GUEST`.
    """
    append(directory, [{"at": round(time.time(), 3), "event": event, "source": source, **values}], file)


def append(directory: Path, events: Iterable[Recorded], name: str = NAME) -> None:
    """Append events; a full file takes the place of the one before it."""
    data = "".join(f"{json.dumps(event)}\n" for event in events).encode()
    with contextlib.suppress(OSError):
        descriptor = _open(directory / name, len(data))
        try:
            # A line that a power loss cut ends here.
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (b"\n" if torn else b"") + data)
        finally:
            os.close(descriptor)


def read(directory: Path) -> list[Recorded]:
    """All events that are known, oldest first."""
    own = [*_unknown(recorded(directory), ())]  # two may have taken over the same of a log at once
    return sorted((*own, *_unknown(of_guest(directory), own)), key=lambda event: float(event["at"]))


def collect(directory: Path) -> None:
    """Take over what the guest's log says: it is about to be removed."""
    if new := [*_unknown(of_guest(directory), recorded(directory))]:
        append(directory, _newest(new, GUEST_KEPT), GUEST)


def recorded(directory: Path) -> Iterator[Recorded]:
    """What was written down here."""
    for path in (path for name in (GUEST, NAME) for path in (_before(directory / name), directory / name)):
        for line in tail(path, 2 * LARGEST).splitlines():
            with contextlib.suppress(ValueError):
                event = parse_json(line)
                if isinstance(event, dict) and isinstance(event.get("at"), int | float) and "event" in event:
                    yield {"source": "vmtool", **event}


def of_guest(directory: Path) -> list[Recorded]:
    """What the guest's log says, unattested; the newest ones."""
    return [{**event, "source": "guest"} for log in GUEST_LOGS
            for event in read_events(tail(directory / log, GUEST_BYTES))][-GUEST_MOST:]


def _newest(events: Iterable[Recorded], size: int) -> list[Recorded]:
    """Of events, oldest first, the last ones, of so many bytes."""
    kept = list[Recorded]()
    for event in reversed([*events]):
        size -= len(json.dumps(event)) + 1
        if size < 0:
            break
        kept.append(event)
    return kept[::-1]


def _before(path: Path) -> Path:
    return path.with_suffix(".1.jsonl")


def _unknown(events: Iterable[Recorded], known: Iterable[Recorded]) -> Iterator[Recorded]:
    seen = {json.dumps(event, sort_keys=True) for event in known}
    for event in events:
        text = json.dumps(event, sort_keys=True)
        if text not in seen:
            seen.add(text)
            yield event


def _open(path: Path, more: int) -> int:
    """The file to append so many bytes to, locked; a new one when it would be too long. No directory is made: after
    `rm` there is none."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            found = os.fstat(descriptor)
            if (not found.st_size or found.st_size + more < LARGEST) and is_at(path, found):
                return descriptor
            if is_at(path, found):
                os.rename(path, _before(path))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def is_at(path: Path, found: os.stat_result) -> bool:
    """Whether the path still leads to that file: another process may have renamed it."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), found)
    except FileNotFoundError:
        return False


def tail(path: Path, size: int) -> str:
    """The end of a file, in which all that is no ASCII is replaced: in events nothing else is, and 16 MiB of other
    text take four times as much. Empty when it is absent."""
    try:
        with open_file(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
            return file.read(size).decode("ascii", errors="replace")
    except (OSError, Refused):
        return ""
