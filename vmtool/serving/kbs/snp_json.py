"""SEV-SNP evidence as the attestation agent writes it: a report field by field, as the Rust crate `sev` names them.

The tables are read by whoever puts a report together again, too.
"""

from __future__ import annotations

import uuid
from typing import Any

SIZE, SIGNED, NUMBER = 1184, 0x2a0, 72
# Fields by their place in the report and their size (AMD 56860, table 23).
NUMBERS = {"version": (0, 4), "guest_svn": (4, 4), "policy": (8, 8), "vmpl": (0x30, 4), "sig_algo": (0x34, 4),
           "plat_info": (0x40, 8), "key_info": (0x48, 4)}
LATER_NUMBERS = {"cpuid_fam_id": (0x188, 1), "cpuid_mod_id": (0x189, 1), "cpuid_step": (0x18a, 1),
                 "launch_mit_vector": (0x1f8, 8), "current_mit_vector": (0x200, 8)}
OCTETS = {"family_id": (0x10, 16), "image_id": (0x20, 16), "report_data": (0x50, 64), "measurement": (0x90, 48),
          "host_data": (0xc0, 32), "id_key_digest": (0xe0, 48), "author_key_digest": (0x110, 48),
          "report_id": (0x140, 32), "report_id_ma": (0x160, 32), "chip_id": (0x1a0, 64)}
TCBS = {"current_tcb": 0x38, "reported_tcb": 0x180, "committed_tcb": 0x1e0, "launch_tcb": 0x1f0}
VERSIONS = {"current": 0x1e8, "committed": 0x1ec}
PARTS_OF_A_VERSION = ("build", "minor", "major")
# Bytes of a TCB version: before the processors of family 1Ah, and since.
TCB = {"bootloader": 0, "tee": 1, "snp": 6, "microcode": 7}
TURIN_TCB = {"fmc": 0, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 7}
TURIN_FAMILY = 0x1a
# Since which version of the report a later field is there.
SINCE = {"cpuid_fam_id": 3, "cpuid_mod_id": 3, "cpuid_step": 3, "launch_mit_vector": 5, "current_mit_vector": 5}
# Certificates in the host's table (GHCB specification, table 5), as the crate names them.
CERTIFICATES = {uuid.UUID(name).bytes: kind for name, kind in {
    "63da758d-e664-4564-adc5-f4b93be8accd": "VCEK", "a8074bc2-a25a-483e-aae6-39c045a0b8a1": "VLEK",
    "4ab7b379-bbac-4fe4-a02f-05aef327c782": "ASK", "c0b406a4-a803-4952-9743-3fb6014cd0ae": "ARK"}.items()}
_MOST, _ENTRY = 16, 24


def snp_evidence(report: bytes, table: bytes) -> dict[str, Any]:
    """The evidence.

    Args:
        report: 1184 bytes.
        table: the certificates that the host gives its guests; empty for none.

    Raises:
        ValueError: it is no report.
    """
    if len(report) != SIZE:
        raise ValueError(f"a report of {len(report)} bytes, not {SIZE}")
    return {"attestation_report": _fields(report), "cert_chain": _certificates(table) or None}


def _fields(report: bytes) -> dict[str, Any]:
    version = int.from_bytes(report[:4], "little")
    fields: dict[str, Any] = {name: _number(report, *place) for name, place in NUMBERS.items()}
    fields |= {name: _number(report, *place) if version >= SINCE[name] else None
               for name, place in LATER_NUMBERS.items()}
    fields |= {name: list(report[at:at + size]) for name, (at, size) in OCTETS.items()}
    places = TURIN_TCB if version >= 3 and report[0x188] >= TURIN_FAMILY else TCB
    for name, start in TCBS.items():
        fields[name] = {"fmc": None} | {part: report[start + at] for part, at in places.items()}
    for name, start in VERSIONS.items():
        fields[name] = {part: report[start + at] for at, part in enumerate(PARTS_OF_A_VERSION)}
    r, s = (list(report[SIGNED + at:SIGNED + at + NUMBER]) for at in (0, NUMBER))
    return fields | {"signature": {"r": r, "s": s}}


def _number(report: bytes, at: int, size: int) -> int:
    return int.from_bytes(report[at:at + size], "little")


def _certificates(table: bytes) -> list[dict[str, Any]]:
    found = []
    for at in range(0, min(len(table), _MOST * _ENTRY), _ENTRY):
        kind, start, size = table[at:at + 16], _number(table, at + 16, 4), _number(table, at + 20, 4)
        if not any(kind):
            break
        if kind in CERTIFICATES and size and start + size <= len(table):
            found.append({"cert_type": CERTIFICATES[kind], "data": list(table[start:start + size])})
    return found
