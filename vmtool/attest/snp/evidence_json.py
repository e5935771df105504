"""How Confidential Containers' attestation agent writes SEV-SNP evidence: the report field by field, as JSON.

The names are those of the Rust crate `sev`, which the agent serialises with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cryptography import x509

from vmtool.attest.certificates import common_name, load_certificates
from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import mapping, number, octets, text
from vmtool.serving.kbs.snp_json import (
    LATER_NUMBERS,
    NUMBERS,
    OCTETS,
    PARTS_OF_A_VERSION,
    SIGNED,
    SIZE,
    TCB,
    TCBS,
    TURIN_TCB,
    VERSIONS,
)

FIELDS = frozenset({*NUMBERS, *LATER_NUMBERS, *OCTETS, *TCBS, *VERSIONS, "signature"})
KEYS = frozenset({"attestation_report", "cert_chain"})
# How the common names of certificates begin, by what the evidence calls them; the longest that fits is theirs.
CERTIFICATES = {"ARK": "ARK-", "ASK": "SEV-", "VCEK": "SEV-VCEK", "VLEK": "SEV-VLEK"}
# The intermediate of VLEKs, which is an ASK as well.
ASVK = "SEV-VLEK-"


def rebuild_report(value: object) -> bytes:
    """The report's bytes, which are what is signed.

    Raises:
        NotProven: a field is missing, unknown or odd.
    """
    fields = mapping(value, "attestation_report", FIELDS)
    report = bytearray(SIZE)
    for at, data in _parts(fields):
        report[at:at + len(data)] = data
    return bytes(report)


def _parts(fields: Mapping[str, Any]) -> Iterator[tuple[int, bytes]]:
    for name, (at, size) in NUMBERS.items():
        yield at, number(fields.get(name), name, size)
    for name, (at, size) in LATER_NUMBERS.items():
        if fields.get(name) is not None:
            yield at, number(fields[name], name, size)
    for name, (at, size) in OCTETS.items():
        yield at, octets(fields.get(name), name, size)
    for name, at in TCBS.items():
        yield at, _tcb(fields.get(name), name)
    for name, at in VERSIONS.items():
        parts = mapping(fields.get(name), name, frozenset({"major", "minor", "build"}))
        yield at, b"".join(number(parts.get(part), f"{name}.{part}", 1) for part in PARTS_OF_A_VERSION)
    signature = mapping(fields.get("signature"), "signature", frozenset("rs"))
    yield SIGNED, octets(signature.get("r"), "r", 72) + octets(signature.get("s"), "s", 72)


def _tcb(value: object, name: str) -> bytes:
    """Only Turin and later have an fmc."""
    parts = mapping(value, name, frozenset({"fmc", "bootloader", "tee", "snp", "microcode"}))
    tcb = bytearray(8)
    for part, at in (TCB if parts.get("fmc") is None else TURIN_TCB).items():
        tcb[at:at + 1] = number(parts.get(part), f"{name}.{part}", 1)
    return bytes(tcb)


def certificates_of(value: object) -> Iterator[x509.Certificate]:
    """The certificates that came with the report; none when there is no chain.

    Raises:
        NotProven: one is called something else than it is, or occurs twice.
    """
    if value is None:
        return
    if not isinstance(value, list):
        octets(value, "cert_chain")
        return
    seen: set[x509.Certificate] = set()
    for item in value:
        entry = mapping(item, "cert_chain", frozenset({"cert_type", "data"}))
        kind = text(entry.get("cert_type"), "cert_type")
        require(kind in CERTIFICATES, f"a certificate of the unknown type {kind[:20]!r}")
        for certificate in load_certificates(octets(entry.get("data"), "data")):
            require(kind == kind_of(common_name(certificate)), f"a {common_name(certificate)[:40]!r} is called {kind}")
            require(certificate not in seen, "a certificate occurs twice")
            seen.add(certificate)
            yield certificate


def kind_of(name: str) -> str:
    """What evidence calls a certificate of that common name; empty for one that is none of AMD's."""
    fitting = [kind for kind, start in CERTIFICATES.items() if name.startswith(start)]
    return "ASK" if name.startswith(ASVK) else max(fitting, key=lambda kind: len(CERTIFICATES[kind]), default="")
