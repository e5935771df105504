"""Certificates and revocation lists made by tests, as a genuine authority makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.unit.attest.cases import NOW

PSS = padding.PSS(padding.MGF1(hashes.SHA384()), 48)


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


@dataclass(frozen=True)
class Form:
    """How a certificate is made; each test changes one thing of it."""

    authority: bool = True
    path_length: int | None = None
    first: datetime = NOW - timedelta(days=30)
    last: datetime = NOW + timedelta(days=30)
    hashed: hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA384)
    may_sign: bool = True
    may_list: bool = True
    usages: Sequence[x509.ExtensionType] = ()
    serial: int = 5
    extensions: Sequence[tuple[str, bytes]] = ()
    critical: bool = False


def issue(common: str, issuer: Issued | None = None, form: Form = Form(), key: Any = None) -> Issued:
    """A certificate; signed by itself without an issuer."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    above = issuer.certificate.subject if issuer else name(common)
    return Issued(certify(common, (above, issuer.key if issuer else key), form, key.public_key()), key)


def certify(common: str, issuer: tuple[x509.Name, Any], form: Form, public: Any) -> x509.Certificate:
    """A certificate of a public key, by an issuer of this name with this key."""
    above, signer = issuer
    builder = x509.CertificateBuilder(above, name(common), public, form.serial, form.first, form.last)
    if form.authority:
        usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                               "encipher_only", "decipher_only"), False)
        builder = builder.add_extension(x509.BasicConstraints(True, form.path_length), True).add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=form.may_sign, crl_sign=form.may_list, **usage), True)
    for usage_of_key in form.usages:
        builder = builder.add_extension(usage_of_key, False)
    for oid, value in form.extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), form.critical)
    scheme = PSS if isinstance(signer, rsa.RSAPrivateKey) else None
    return builder.sign(signer, form.hashed, rsa_padding=scheme)


def revoke(issuer: Issued, *serials: int, first: datetime = NOW - timedelta(days=3),
           last: datetime | None = NOW + timedelta(days=3), signer: Issued | None = None) -> bytes:
    """A revocation list, in DER."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(first)
    builder = builder.next_update(last or NOW)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(first).build())
    key = (signer or issuer).key
    scheme = PSS if isinstance(key, rsa.RSAPrivateKey) else None
    return builder.sign(key, hashes.SHA384(), rsa_padding=scheme).public_bytes(Encoding.DER)
