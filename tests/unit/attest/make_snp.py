"""SEV-SNP reports and certificates made by tests, for what no public evidence shows: Turin, revocation, odd fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest.make_certificates import Form, Issued, issue
from vmtool.attest.request import Roots
from vmtool.serving.kbs.snp_json import SIGNED, SIZE

AMD = "1.3.6.1.4.1.3704.1"
CHIP = bytes(range(1, 9))
TURIN_TCB = {9: 1, 1: 2, 2: 3, 3: 4, 8: 5}


@cache
def authorities() -> tuple[Issued, Issued, Roots]:
    """ARK and ASK of Turin, and the roots that trust them."""
    ark = issue("ARK-Turin", key=rsa_key(4096, 1))
    ask = issue("SEV-Turin", ark, Form(path_length=0, serial=77), key=rsa_key(4096, 2))
    return ark, ask, Roots({"amd-turin.pem": ark.pem + ask.pem})


@dataclass(frozen=True)
class Changes:
    """What differs from a good report or certificate: bytes by their place, and the certificate's parts."""

    report: tuple[tuple[int, bytes], ...] = ()
    name: str = "SEV-VCEK"
    product: bytes = b"\x16\x05Turin"
    chip: bytes = CHIP
    tcb: tuple[tuple[int, int], ...] = ()
    authority: bool = False
    curve: ec.EllipticCurve = field(default_factory=ec.SECP384R1)


GOOD = Changes()


def make(changes: Changes = GOOD) -> tuple[bytes, bytes]:
    """A report of version 5 and its VCEK in DER."""
    versions = TURIN_TCB | dict(changes.tcb)
    extensions = [(f"{AMD}.2", changes.product), (f"{AMD}.4", changes.chip),
                  *((f"{AMD}.3.{number}", bytes((2, 1, version))) for number, version in versions.items())]
    vcek = issue(changes.name, authorities()[1], Form(authority=changes.authority, extensions=extensions, serial=9),
                 key=ec.generate_private_key(changes.curve))
    return sign(vcek, changes.report), vcek.der


def sign(vcek: Issued, changes: tuple[tuple[int, bytes], ...]) -> bytes:
    """A report with these changes, signed after them."""
    report = bytearray(SIZE)
    fields = {0: (5).to_bytes(4, "little"), 8: (0x30000).to_bytes(8, "little"), 0x34: b"\1", 0x50: b"\x11" * 64,
              0x90: b"\x22" * 48, 0xc0: b"\x33" * 32, 0x180: bytes((1, 2, 3, 4, 0, 0, 0, 5)), 0x188: b"\x1a\x02",
              0x1a0: CHIP, 0x1f0: bytes((1, 2, 3, 4, 0, 0, 0, 5))}
    for place, data in (*fields.items(), *changes):
        report[place:place + len(data)] = data
    r, s = decode_dss_signature(vcek.key.sign(bytes(report[:SIGNED]), ec.ECDSA(hashes.SHA384())))
    size = 72
    report[SIGNED:SIGNED + 2 * size] = r.to_bytes(size, "little") + s.to_bytes(size, "little")
    return bytes(report)
