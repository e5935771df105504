"""Evidence of a launch's own endpoint over a fresh nonce: a worker, since a guest need not answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from vmtool.attest.options import SERVER_PACKAGES, require_packages
from vmtool.attest.tee_files import Files
from vmtool.endpoint.client import Server, address_of
from vmtool.errors import NotReady
from vmtool.host.http import known_server
from vmtool.machine import Host


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
    from vmtool.attest.server import fetch
    from vmtool.attest.server.answer import answered
    from vmtool.attest.server.place import Place, parse_url
    from vmtool.attest.tee_evidence import keep_answer

    if not order.server.trust:
        raise NotReady("the endpoint speaks no TLS: there is no key that evidence could be bound to",
                       hint="launch it with spec.tls: vmtool spec explain spec.tls")
    _, name, port = parse_url(str(address_of(host, order.server)))
    found = asyncio.run(fetch.fetch(Place(name, port, known_server(order.server.trust), vouched=True)))
    keep_answer(host, order.files, found.data, answered(found.data, found.nonce, found.key))
