"""Whether the certificates that a spec names are of use, before anything is changed."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

from vmtool.extras import adding
from vmtool.machine import Reader
from vmtool.spec.tls import TlsSpec


def read_tls_problems(reader: Reader, tls: TlsSpec) -> tuple[tuple[str, str], ...]:
    """The key of the spec, and what is wrong there."""
    if not tls.on:
        return ()
    try:
        return tuple(_problems(reader, tls, datetime.datetime.now(datetime.UTC)))
    except ModuleNotFoundError as error:
        return (("source", f"TLS needs the Python package {error.name} ({adding('tls')})"),)


def _problems(reader: Reader, tls: TlsSpec, now: datetime.datetime) -> Iterator[tuple[str, str]]:
    from vmtool.tls.given import check_dates, read_certificates, read_pair

    if tls.certificate and tls.key:
        certificate, key = tls.certificate, tls.key
        try:
            read_pair(lambda: _read(reader, certificate), lambda: _read(reader, key), now)
        except (ValueError, OSError) as error:
            yield "certificate", f"{certificate}: {error}"
    if tls.clients:
        try:
            for each in read_certificates(_read(reader, tls.clients)):
                check_dates(each, now)
        except (ValueError, OSError) as error:
            yield "clients", f"{tls.clients}: {error}"


def _read(reader: Reader, path: Path) -> bytes:
    from vmtool.tls.given import MOST_BYTES

    piece = reader.piece(str(path), 0, MOST_BYTES + 1)
    if piece is None or (piece.size and not piece.data):
        raise OSError(f"{path} cannot be read, or is no file")
    return piece.data
