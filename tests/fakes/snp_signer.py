"""A processor of SEV-SNP that only tests trust: it signs reports over what it is given, as the firmware does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest.make_certificates import Form, Issued, issue
from tests.unit.attest.make_snp import AMD, CHIP, GOOD, TURIN_TCB, sign

MEASUREMENT = b"\x22" * 48
FIRST, LAST = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
# GHCB's entry of a VCEK.
VCEK_ENTRY = bytes.fromhex("63da758de6644564adc5f4b93be8accd")


@dataclass(frozen=True)
class Signer:
    """A chip with its certificate, and the roots that trust it."""

    vcek: Issued
    roots: bytes
    ark: Issued | None = None

    def report(self, data: bytes, *changes: tuple[int, bytes]) -> bytes:
        """A report with this REPORT_DATA, and bytes at other places."""
        return sign(self.vcek, ((0x50, data), *changes))

    @property
    def table(self) -> bytes:
        """The host's table of certificates."""
        head = 48
        entry = VCEK_ENTRY + head.to_bytes(4, "little") + len(self.vcek.der).to_bytes(4, "little")
        return entry + bytes(24) + self.vcek.der

    def save(self, directory: Path) -> None:
        """For a process of its own; the roots as a directory that a policy names."""
        (directory / "roots").mkdir()
        (directory / "roots/amd-turin.pem").write_bytes(self.roots)
        key = self.vcek.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "vcek.pem").write_bytes(key + self.vcek.pem)


def load(directory: Path) -> Signer:
    """What `save` has written."""
    data = (directory / "vcek.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(data)
    roots = (directory / "roots/amd-turin.pem").read_bytes()
    return Signer(Issued(certificate, load_pem_private_key(data, None)), roots)


@cache
def signer() -> Signer:
    """One, with a root of its own."""
    ark = issue("ARK-Turin", None, Form(first=FIRST, last=LAST), key=rsa_key(4096, 3))
    ask = issue("SEV-Turin", ark, Form(path_length=0, serial=77, first=FIRST, last=LAST),
                key=rsa_key(4096, 4))
    extensions = [(f"{AMD}.2", GOOD.product), (f"{AMD}.4", CHIP),
                  *((f"{AMD}.3.{number}", bytes((2, 1, version))) for number, version in TURIN_TCB.items())]
    vcek = issue("SEV-VCEK", ask, Form(authority=False, extensions=extensions, serial=9, first=FIRST, last=LAST),
                 key=ec.generate_private_key(ec.SECP384R1()))
    return Signer(vcek, ark.pem + ask.pem, ark)
