"""Evidence of a launch's own endpoint over a fresh nonce: a worker, since a guest need not answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from vmtool.attest.options import SERVER_PACKAGES, require_packages
from vmtool.attest.tee_files import Files
from vmtool.endpoint.client import Server, address_of, authorization
from vmtool.errors import NotReady
from vmtool.frozen import dataclass
from vmtool.machine import Host

if TYPE_CHECKING:
    from vmtool.attest.server.fetch import Answered


# Seconds of asking, within those that the worker has; and between two questions.
SECONDS, PAUSE = 50.0, 2.0


@dataclass(frozen=True)
class Order:
    """The endpoint, and what its evidence is compared with."""

    server: Server
    files: Files


def run(order: Order, host: Host) -> None:
    """Print what it answered.

    Raises:
        NotReady: it speaks no TLS, or a library is missing. Unreachable, NotVerified: it gives no evidence.
    """
    require_packages(SERVER_PACKAGES, "connect")
    # A plan has the order; only who asks needs what asking takes.
    import asyncio

    from vmtool.attest.server import fetch
    from vmtool.attest.server.answer import answered
    from vmtool.attest.server.place import Place, parse_url
    from vmtool.attest.tee_evidence import print_answer
    from vmtool.host.http import known_server

    if not order.server.trust:
        raise NotReady("the endpoint speaks no TLS: there is no key that evidence could be bound to",
                       hint="launch it with spec.tls: vmtool spec explain spec.tls")
    _, name, port = parse_url(str(address_of(host, order.server)))
    place = Place(name, port, known_server(order.server.trust), vouched=True)
    shown = authorization(host, order.files.key) if host.exists(str(order.files.key)) else {}
    found = asyncio.run(_patiently(lambda: fetch.fetch(place, headers=shown)))
    print_answer(host, order.files, found.data, answered(found.data, found.nonce, found.key))


async def _patiently(ask: Callable[[], Awaitable[Answered]]) -> Answered:
    """What it answers in the end: others, who may have no key, ask it too, and have it busy.

    Raises:
        NotNow: it has nothing within the time, as it said last.
    """
    import asyncio

    from vmtool.attest.server.errors import NotNow

    busy = NotNow(f"it gives no evidence within {SECONDS:.0f} s")
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                try:
                    return await ask()
                except NotNow as error:
                    busy = error
                await asyncio.sleep(PAUSE)
    except TimeoutError:
        raise busy from None
