"""Learns the TLS key that an endpoint has made by itself: a worker.

What it shows at a handshake is written to trusted.pem and public.pem, before anything is sent to it: when it is the key
that the workload's own log names, so that nobody else on its network can answer in its place. What that key is worth to
anybody else, its evidence says.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import Certificate

from vmtool.endpoint import client
from vmtool.endpoint.actions import ended_early
from vmtool.endpoint.client import Server
from vmtool.errors import ProgramFailed, VerificationFailed
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.serving.events import read_events
from vmtool.serving.evidence.binding import key_digest
from vmtool.tls.given import read_certificates

PEM = serialization.Encoding.PEM
LOG = 1 << 20


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
    while not (found := _shown(order, address, host)):
        if not host.living(order.pidfile):
            raise ended_early(host, order.log)
        if host.now() - started > order.deadline:
            raise ProgramFailed(f"{address}:{order.port} showed no TLS key within {order.deadline:.0f} s",
                                details=host.tail(order.log), hint="give it more time with --timeout SECONDS",
                                log=str(order.log))
        host.sleep(client.POLL)
    host.write(order.directory / "trusted.pem", found.public_bytes(PEM))
    host.write(order.directory / "public.pem", found.public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def _shown(order: Order, address: str, host: Host) -> Certificate | None:
    """The certificate that is shown, once it is that of the key which the log names."""
    wanted, shown = _named(order.log, host), host.shown_certificate(address, order.port, deadline=5.0)
    if not wanted or not shown:
        return None
    try:
        [certificate] = read_certificates(shown)
        digest = key_digest(certificate.public_bytes(serialization.Encoding.DER)).hex()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationFailed(f"{address}:{order.port} shows no certificate that can be used: {error}") from error
    if digest != wanted:
        raise VerificationFailed(f"{address}:{order.port} shows another TLS key than the endpoint has made",
                                 details=[f"made: sha256:{wanted}", f"shown: sha256:{digest}"],
                                 hint="somebody else answers at its address; who is on its network: vmtool net show")
    return certificate


def _named(log: Path, host: Host) -> str:
    """The first that the log names: the front does so before its engine can write a line."""
    piece = host.piece(str(log), 0, LOG)
    text = piece.data.decode(errors="replace") if piece else ""
    return next((str(event.get("digest")) for event in read_events(text) if event["event"] == "tls-key"), "")
