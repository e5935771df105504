"""Where a server is that somebody names: by its URL, or as an instance of this machine."""

from __future__ import annotations

import ssl
from pathlib import Path

from vmtool.attest.server.place import Place, is_loopback, parse_url
from vmtool.endpoint.client import Server, address_of
from vmtool.errors import Refused
from vmtool.host.http import known_server, unknown_server
from vmtool.host.local import LocalHost
from vmtool.launch.commands.instance import running
from vmtool.paths import NAME, State


def find_server(state: State, server: str, *, ca: Path | None = None, plain: bool = False) -> Place:
    """Where the server is, and by what context it is known beforehand.

    Args:
        ca: file with the CA of its certificate, when one must have signed it.
        plain: whether a server of this machine may do without TLS.

    Raises:
        Refused: it is none, or has no TLS where that must be. VmtoolError: the instance does not run.
    """
    if "/" not in server and NAME.fullmatch(server):
        state.check_readable()
        known = running(state, server).known()
        address = address_of(LocalHost(), Server(known.host, known.port, Path(known.result), known.trust))
        scheme, host, port = parse_url(str(address))
        context = known_server(known.trust) if known.trust else None
    else:
        scheme, host, port = parse_url(server)
        context = None
    if scheme == "http":
        _check_plain(server, host, plain=plain)
        return Place(host, port, None)
    if ca:
        try:
            context = ssl.create_default_context(cafile=str(ca))
        except (OSError, ssl.SSLError) as error:
            raise Refused(f"{ca}: no certificate of a CA: {getattr(error, 'strerror', error)}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    return Place(host, port, context or unknown_server(), vouched=context is not None)


def _check_plain(server: str, host: str, *, plain: bool) -> None:
    if not plain:
        raise Refused(f"{server} speaks no TLS: there is no key that evidence could be bound to",
                      hint="launch it with spec.tls: vmtool spec explain spec.tls; without a TEE the policy can say "
                           "allow_unconfidential: true")
    if not is_loopback(host):
        raise Refused(f"{server} speaks no TLS, and {host} is not this machine's loopback: others could read all of it",
                      hint="launch it with spec.tls: vmtool spec explain spec.tls")
