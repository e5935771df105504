"""Who is connected, and who has to go when there is no more room: first those that have shown no key."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from vmtool.serving.front.limits import Limits


class Member(Protocol):
    """A connection, as the crowd sees it."""

    @property
    def address(self) -> str: ...


class Peer(Member, Protocol):
    """What can be asked of it besides."""

    def drop(self) -> None: ...
    def overdue(self, now: float) -> bool: ...
    def leave(self, now: float) -> None: ...


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """The open connections.

    A peer that shows a key with its first request gets in however many others wait: room is made by ending the
    connection that has waited longest without a key, of the same address when that address has its share, else of
    all. Those with a key that wait for nothing follow; one that is being served is never ended.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        # Dictionaries for their order: the first waits longest.
        self.keyless: dict[M, None] = {}
        self.addresses: dict[str, dict[M, None]] = {}
        self.idle: dict[M, None] = {}
        self.busy: set[M] = set()
        # No further request is wanted on the connections that are there.
        self.leaving = False

    def __len__(self) -> int:
        return len(self.keyless) + len(self.idle) + len(self.busy)

    def __iter__(self) -> Iterator[M]:
        yield from (*self.keyless, *self.idle, *self.busy)

    def admit(self, newcomer: M) -> M | None:
        """Take a new connection in; who has to go for it, which may be the newcomer itself."""
        neighbours = self.addresses.get(newcomer.address, {})
        leaver: M | None = None
        if len(neighbours) >= self.limits.keyless_per_address:
            leaver = next(iter(neighbours))
        elif len(self) >= self.limits.connections:
            leaver = self._longest_waiting() or newcomer
        if leaver is not newcomer:
            self._join(newcomer)
        if leaver is not None:
            self.leave(leaver)
        return leaver

    def replace(self, arrived: M, member: M) -> bool:
        """The same peer is another object from now on; whether it is still there."""
        if arrived not in self.keyless:
            return False
        self.leave(arrived)
        self._join(member)
        return True

    def serve(self, member: M) -> None:
        """It has shown a key, and is being served."""
        if member in self.keyless or member in self.idle:
            self.leave(member)
            self.busy.add(member)

    def rest(self, member: M) -> None:
        """What was asked with a key is answered."""
        if member in self.busy:
            self.busy.remove(member)
            self.idle[member] = None

    def leave(self, member: M) -> None:
        """It is gone; harmless when it was not there."""
        self.busy.discard(member)
        self.idle.pop(member, None)
        if member in self.keyless:
            del self.keyless[member]
            neighbours = self.addresses[member.address]
            del neighbours[member]
            if not neighbours:
                del self.addresses[member.address]

    def _join(self, member: M) -> None:
        self.keyless[member] = None
        self.addresses.setdefault(member.address, {})[member] = None

    def _longest_waiting(self) -> M | None:
        # A few without a key are always left: they may be just about to show it.
        few = len(self.keyless) <= self.limits.connections // 8
        first, second = (self.idle, self.keyless) if few else (self.keyless, self.idle)
        return next(iter(first or second), None)


@functools.lru_cache(1024)
def address_group(host: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that is usually one person's."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return host
