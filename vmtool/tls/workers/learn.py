"""Learns the TLS key that an endpoint has made by itself: a worker.

What it shows at the first handshake is written to trusted.pem and public.pem: before anything is sent to it, on the way
that this host has made to it. What that key is worth to anybody else, its evidence says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from vmtool.endpoint import client
from vmtool.endpoint.actions import ended_early
from vmtool.endpoint.client import Server
from vmtool.errors import ProgramFailed
from vmtool.machine import Host
from vmtool.tls.given import read_certificates

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        host, port, result: of `Server`.
        directory: of the instance's TLS files.
        pidfile, log: of the workload, which may end.
        deadline: seconds.
    """

    host: str
    port: int
    result: Path
    directory: Path
    pidfile: Path
    log: Path
    deadline: float


def run(order: Order, host: Host) -> None:
    """Do it."""
    address = client.host_of(host, Server(order.host, order.port, order.result))
    started = host.now()
    while not (shown := host.shown_certificate(address, order.port, deadline=5.0)):
        if not host.living(order.pidfile):
            raise ended_early(host.tail(order.log), order.log)
        if host.now() - started > order.deadline:
            raise ProgramFailed(f"{address}:{order.port} showed no TLS key within {order.deadline:.0f} s",
                                details=host.tail(order.log), log=str(order.log))
        host.sleep(client.POLL)
    [certificate] = read_certificates(shown)
    host.write(order.directory / "trusted.pem", certificate.public_bytes(PEM))
    host.write(order.directory / "public.pem", certificate.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
