"""Certificates for tests, of vmtool's own CA in a scratch directory."""

from __future__ import annotations

import datetime
import re
import ssl
from pathlib import Path

from vmtool.host.local import LocalHost
from vmtool.tls.authority import Pair, certificate_path, read_authority


def issue(directory: Path, *names: str, client: bool = False, days: float = 10) -> Pair:
    """A leaf of the CA in the directory."""
    now = datetime.datetime.now(datetime.UTC)  # a test begins long after its module is imported
    return read_authority(LocalHost(), directory, now).issue(names or ("localhost", "127.0.0.1"), now, client=client,
                                                             days=days)


def line(word: str, pem: bytes) -> str:
    """Of the list of who may ask."""
    return f"{word} {''.join(re.sub('-----[^-]+-----', '', pem.decode()).split())}\n"


def lines(pair: Pair, clients: Path | None = None) -> str:
    ca = line("client-ca", certificate_path(clients).read_bytes()) if clients else ""
    return line("certificate", pair.certificate) + line("certificate-key", pair.key) + ca


def trusting(directory: Path, own: Pair | None = None) -> ssl.SSLContext:
    """A client's context, which trusts the CA of the directory and has a certificate of its own."""
    context = ssl.create_default_context(cafile=str(certificate_path(directory)))
    if own:
        path = directory / "client.pem"
        path.write_bytes(own.certificate + own.key)
        context.load_cert_chain(path)
    return context
