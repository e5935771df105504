"""The firmware's log of what it measured (TCG PC Client Platform Firmware Profile), and what it leads to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from vmtool.attest.cursor import Cursor, require
from vmtool.frozen import dataclass
from vmtool.serving.evidence.tpm_commands import PCRS

NO_ACTION = 3
SIGNATURE, LOCALITY = b"Spec ID Event03\0", b"StartupLocality\0"
# Sizes of digests by algorithm; SHA-1 and SM3 are in logs beside the others.
SIZES = {0x04: 20, 0x0b: 32, 0x0c: 48, 0x0d: 64, 0x12: 32}
BANKS: dict[str, tuple[int, Callable[[bytes], Any]]] = {
    "sha256": (0x0b, hashlib.sha256), "sha384": (0x0c, hashlib.sha384), "sha512": (0x0d, hashlib.sha512)}
MOST_EVENTS = 20_000


@dataclass(frozen=True)
class Event:
    """One measurement: register, kind, digests by algorithm, and what the firmware says it was."""

    register: int
    kind: int
    digests: dict[int, bytes]
    data: bytes


def parse_log(data: bytes, *, registers: int = PCRS, filled: bool = False) -> tuple[Event, ...]:
    """The events, without the header.

    Args:
        registers: how many there are; filled: the log may lie in an area of its own, whose rest is filled.

    Raises:
        NotProven: it is no log of several algorithms, or one is cut.
    """
    cursor = Cursor(data, "the event log")
    register, kind = cursor.number(4), cursor.number(4)
    cursor.take(20)
    header = Cursor(cursor.take(cursor.number(4)), "the log's header")
    # In a guest's own area the header has the first of its registers.
    require(register <= filled and kind == NO_ACTION and header.take(16) == SIGNATURE,
            "no event log of several algorithms")
    header.take(8)
    sizes = {header.number(2): header.number(2) for _ in range(_bounded(header.number(4), 8))}
    require(all(SIZES.get(algorithm) == size for algorithm, size in sizes.items()), "an algorithm of the log is odd")
    events: list[Event] = []
    while cursor.left() and not (filled and _is_filler(data, cursor.at)):
        require(len(events) < MOST_EVENTS, f"the log has more than {MOST_EVENTS} events")
        events.append(_event(cursor, sizes, registers))
    return tuple(events)


def _is_filler(data: bytes, at: int) -> bool:
    """Zeros or ones to the end: no event begins so."""
    first = data[at:at + 1]
    return first in (b"\0", b"\xff") and not data[at:at + 12].strip(first) and not data[at:].strip(first)


def _event(cursor: Cursor, sizes: dict[int, int], registers: int) -> Event:
    register, kind = cursor.number(4), cursor.number(4)
    digests: dict[int, bytes] = {}
    for _ in range(_bounded(cursor.number(4), len(sizes))):
        algorithm = cursor.number(2)
        require(algorithm in sizes and algorithm not in digests, "an event has an odd digest")
        digests[algorithm] = cursor.take(sizes[algorithm])
    require(register < registers or kind == NO_ACTION, f"register {register} of an event is unknown")
    return Event(register, kind, digests, cursor.take(cursor.number(4)))


def _bounded(count: int, most: int) -> int:
    require(0 < count <= most, f"{count} digests, 1 to {most} are expected")
    return count


def replay(events: tuple[Event, ...], bank: str) -> dict[int, bytes]:
    """The registers of one bank that the events lead to. Those from 17 to 22 start with ones, the others with zeros.

    Raises:
        NotProven: an event has no digest of that bank, or the log begins a register twice.
    """
    algorithm, hashed = BANKS[bank]
    size = SIZES[algorithm]
    registers = {number: (b"\xff" if 17 <= number <= 22 else b"\0") * size for number in range(PCRS)}
    begun = False
    for event in events:
        starts = event.kind == NO_ACTION and event.data.startswith(LOCALITY) and len(event.data) == len(LOCALITY) + 1
        # Else what the log has before it would be nothing that is in the register.
        require(not (starts and begun), "the log begins register 0 twice")
        begun = begun or starts or (event.kind != NO_ACTION and event.register == 0)
        if starts:
            registers[0] = bytes(size - 1) + event.data[-1:]
        if event.kind == NO_ACTION:
            continue
        require(algorithm in event.digests, f"an event of register {event.register} has no digest of {bank}")
        registers[event.register] = hashed(registers[event.register] + event.digests[algorithm]).digest()
    return registers
