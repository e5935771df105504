"""Makes ready what the front of an instance shows, and what vmtool itself needs to ask it: a worker.

In the order's directory: certificate.pem and key.pem, or own-key when the front makes its own; clients.pem, the CAs
whose certificates the front asks for; client.pem, vmtool's own certificate for that; trusted.pem and public.pem, by
which vmtool knows the front.
"""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.x509 import Certificate

from vmtool.errors import Refused
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.serving.access_list import OWN_KEY
from vmtool.tls.authority import CA_DAYS, certificate_path, read_authority
from vmtool.tls.given import check_dates, read_certificates, read_pair

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        ca: directory of vmtool's CA; directory: of the instance's files.
        names: of a certificate of that CA; `result` is the CNI result with the container's address, one more.
        certificate, key: a person's files instead; clients: of a CA whose certificates clients must have.
        in_guest: the front makes its own key.
        keeps: whether vmtool shall know the front by the certificate of before as well: until it has the new one.
    """

    ca: Path
    directory: Path
    names: tuple[str, ...]
    result: Path
    certificate: Path | None = None
    key: Path | None = None
    clients: Path | None = None
    keeps: bool = False
    in_guest: bool = False


def run(order: Order, host: Host) -> None:
    """Do it."""
    now = datetime.datetime.now(datetime.UTC)
    host.make_dir(order.directory)
    if order.clients:
        _write_clients(order, host, now)
    if order.in_guest:
        host.write(order.directory / OWN_KEY, b"")
        return
    chain, key = _given(order, host, now) if order.certificate else _issued(order, host, now)
    old = host.read(order.directory / "trusted.pem") if order.keeps else b""
    new = chain[0].public_bytes(PEM)
    host.write(order.directory / "trusted.pem", new + b"".join(each for each in [old] if new not in old))
    host.write(order.directory / "public.pem", chain[0].public_key().public_bytes(
        PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    host.write(order.directory / "key.pem", key, mode=0o400)
    host.write(order.directory / "certificate.pem", b"".join(each.public_bytes(PEM) for each in chain))


def _issued(order: Order, host: Host, now: datetime.datetime) -> tuple[tuple[Certificate, ...], bytes]:
    try:
        address = [str(parse_json(host.read(order.result))["ips"][0]["address"]).partition("/")[0]]
    except (OSError, ValueError, LookupError, TypeError):
        address = []
    authority = read_authority(host, order.ca, now)
    pair = authority.issue(tuple(dict.fromkeys((*order.names, *address))), now)
    return (*read_certificates(pair.certificate), authority.certificate), pair.key


def _given(order: Order, host: Host, now: datetime.datetime) -> tuple[tuple[Certificate, ...], bytes]:
    certificate, key = order.certificate, order.key
    if not certificate or not key:
        raise Refused("a certificate of yours needs its key")
    try:
        given = read_pair(lambda: host.read(certificate), lambda: host.read(key), now)
    except ValueError as error:
        raise Refused(f"{certificate}: {error}") from error
    except OSError as error:
        raise Refused(f"{error.filename or certificate}: {(error.strerror or 'cannot be read').lower()}") from error
    loaded = serialization.load_der_private_key(given.key, None)
    return given.chain, loaded.private_bytes(PEM, PKCS8, serialization.NoEncryption())


def _write_clients(order: Order, host: Host, now: datetime.datetime) -> None:
    """The front asks everybody for a certificate, so vmtool has one as well, of its own CA."""
    authority = read_authority(host, order.ca, now)
    try:
        others = read_certificates(host.read(order.clients)) if order.clients else ()
        for each in others:
            check_dates(each, now)
    except ValueError as error:
        raise Refused(f"{order.clients}: {error}") from error
    except OSError as error:
        raise Refused(f"{order.clients}: {(error.strerror or 'cannot be read').lower()}") from error
    own = authority.issue(("vmtool",), now, client=True, days=CA_DAYS)
    host.write(order.directory / "client.pem", own.certificate + own.key, mode=0o400)
    host.write(order.directory / "clients.pem", b"".join(each.public_bytes(PEM) for each in others)
               + host.read(certificate_path(order.ca)))
