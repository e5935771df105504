"""How Confidential Containers' attestation agent writes SEV-SNP evidence: the report field by field, as JSON.

The names are those of the Rust crate `sev`, which the agent serialises with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import mapping, number, octets, text
from vmtool.attest.snp.report import PRODUCTS, SIGNED, SIZE

# Fields by their place in the report and their size.
NUMBERS = {"version": (0, 4), "guest_svn": (4, 4), "policy": (8, 8), "vmpl": (0x30, 4), "sig_algo": (0x34, 4),
           "plat_info": (0x40, 8), "key_info": (0x48, 4)}
LATER_NUMBERS = {"cpuid_fam_id": (0x188, 1), "cpuid_mod_id": (0x189, 1), "cpuid_step": (0x18a, 1),
                 "launch_mit_vector": (0x1f8, 8), "current_mit_vector": (0x200, 8)}
OCTETS = {"family_id": (0x10, 16), "image_id": (0x20, 16), "report_data": (0x50, 64), "measurement": (0x90, 48),
          "host_data": (0xc0, 32), "id_key_digest": (0xe0, 48), "author_key_digest": (0x110, 48),
          "report_id": (0x140, 32), "report_id_ma": (0x160, 32), "chip_id": (0x1a0, 64)}
TCBS = {"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1e0, "launch_tcb": 0x1f0}
VERSIONS = {"current": 0x1e8, "committed": 0x1ec}
FIELDS = frozenset({*NUMBERS, *LATER_NUMBERS, *OCTETS, *TCBS, *VERSIONS, "signature"})
KEYS = frozenset({"attestation_report", "cert_chain"})
# What they are is in them; here they are only named.
CERTIFICATES = ("ARK", "ASK", "VCEK", "VLEK")


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
        yield at, b"".join(number(parts.get(part), f"{name}.{part}", 1) for part in ("build", "minor", "major"))
    signature = mapping(fields.get("signature"), "signature", frozenset("rs"))
    yield SIGNED, octets(signature.get("r"), "r", 72) + octets(signature.get("s"), "s", 72)


def _tcb(value: object, name: str) -> bytes:
    """Only Turin and later have an fmc."""
    parts = mapping(value, name, frozenset({"fmc", "bootloader", "tee", "snp", "microcode"}))
    product = PRODUCTS[0] if parts.get("fmc") is None else PRODUCTS[-1]
    tcb = bytearray(8)
    for part, at in product.tcb.items():
        tcb[at:at + 1] = number(parts.get(part), f"{name}.{part}", 1)
    return bytes(tcb)


def certificates_of(value: object) -> Iterator[bytes]:
    """The certificates that came with the report; none when there is no chain."""
    if value is None:
        return
    if not isinstance(value, list):
        octets(value, "cert_chain")
        return
    for item in value:
        entry = mapping(item, "cert_chain", frozenset({"cert_type", "data"}))
        kind = text(entry.get("cert_type"), "cert_type")
        require(kind in CERTIFICATES, f"a certificate of the unknown type {kind[:20]!r}")
        yield octets(entry.get("data"), "data")
