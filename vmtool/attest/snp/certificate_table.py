"""The table in which a host hands certificates to its guests (GHCB specification, SNP extended guest request; the
auxblob of Linux' configfs-tsm)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from vmtool.attest.cursor import Cursor, require
from vmtool.serving.kbs.snp_json import CERTIFICATES

# GHCB specification, table 5.
KINDS = dict.fromkeys(CERTIFICATES, "certificate") | {uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes: "crl"}
MOST = 16


def is_table(data: bytes) -> bool:
    """Whether it begins with an entry that is known."""
    return data[:16] in KINDS


def read_table(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Each known entry: "certificate" or "crl", and its DER.

    Raises:
        NotProven: the table has no end, or an entry lies outside.
    """
    cursor = Cursor(data, "certificate table")
    for _ in range(MOST):
        name, start, size = cursor.take(16), cursor.number(4), cursor.number(4)
        if not any(name):
            return
        require(0 < size <= len(data) - start, "an entry of the certificate table lies outside")
        if name in KINDS:
            yield KINDS[name], data[start:start + size]
    require(False, f"the certificate table has more than {MOST} entries")
