"""What a peer can hold, in numbers: everything that comes from outside is bounded in size, number and time."""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

# Descriptors beside those of connections: the log, the loop's own, the engine's socket, a few to spare.
SPARE = 64
# Its own, and the epoll of its key's share.
PER_CONNECTION = 2


@dataclass(frozen=True)
class Limits:
    """The front's bounds; sizes in bytes, times in seconds.

    Args:
        connections: open at once, in all.
        keyless_per_address: connections of one address that have shown no key; IPv6 counts by /64.
        keyless_seconds: a connection without a key must have sent a whole request head after that long.
        idle_seconds: how long a connection that has shown a key may wait for its next request.
        closing_seconds: how long what was written last may take to reach a peer that is being closed.
        head: bytes of a request's line and headers, and of what a peer sends ahead of its turn.
        body: bytes of one request's body.
        text: bytes of a body that is only made into tokens: vLLM takes all of it, whatever the model's context, with
            some 220 bytes of memory each, while everybody else waits.
        bodies: bytes of all bodies that are longer than `small_body`, together.
        small_body: bytes of a body that is always taken.
        body_seconds: how long a body may take to come.
        requests: being answered at once, in all.
        requests_per_key: being answered at once, for one key.
        engine_seconds: how long the engine may be silent, before its answer and within it.
        reader_seconds: how long a client may not take what it asked for.
        piece: bytes that are read at once of a peer, but for a body that says its length: heads and chunks cost time.
        buffered: bytes that are read at once of such a body and of the engine, and that wait for one client before the
            engine is slowed down.
        log_lines: lines a second, of requests with and without a key.
        evidence: times in a minute that the guest is asked for evidence, which needs no key; evidence_per_address: for
            one address.
        evidence_seconds: how long it may take; evidence_waiting: requests that wait for it at once.
    """

    connections: int = 1024
    keyless_per_address: int = 512
    keyless_seconds: float = 10.0
    idle_seconds: float = 75.0
    closing_seconds: float = 10.0
    head: int = 32 << 10
    body: int = 16 << 20
    text: int = 1 << 20
    bodies: int = 32 << 20
    small_body: int = 64 << 10
    body_seconds: float = 60.0
    requests: int = 512
    requests_per_key: int = 256
    engine_seconds: float = 600.0
    reader_seconds: float = 60.0
    piece: int = 4 << 10
    buffered: int = 16 << 10
    log_lines: tuple[float, float] = (20.0, 1.0)
    evidence: int = 120
    evidence_per_address: int = 20
    evidence_seconds: float = 20.0
    evidence_waiting: int = 8


def fitting(limits: Limits) -> Limits:
    """The limits that this process can keep: its descriptor limit is raised, and where it cannot be, they shrink."""
    wanted = PER_CONNECTION * limits.connections + limits.requests + SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < wanted:
        soft = wanted if hard == unlimited else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return limits if soft == unlimited or soft >= wanted else shrunk(limits, soft)


def shrunk(limits: Limits, descriptors: int) -> Limits:
    """The same with as many connections and requests as there are descriptors for.

    Raises:
        ValueError: too few to serve anybody.
    """
    rest = descriptors - SPARE
    if rest < 8:
        raise ValueError(f"a limit of {descriptors} open files is too low: at least {SPARE + 8} are needed (ulimit -n)")
    share = rest / (PER_CONNECTION * limits.connections + limits.requests)
    return replace(limits, connections=int(limits.connections * share), requests=max(1, int(limits.requests * share)))
