"""X.509 certificates and revocation lists: loading them, and following a chain to a root that is trusted."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import require

PEM = b"-----BEGIN CERTIFICATE-----"
PEM_TEXT = re.compile(rb"(\s*-----BEGIN CERTIFICATE-----\r?\n[A-Za-z0-9+/=\r\n]+-----END CERTIFICATE-----)+\s*")
PEM_CRL = b"-----BEGIN X509 CRL-----"
PEM_CRL_TEXT = re.compile(rb"\s*-----BEGIN X509 CRL-----\r?\n[A-Za-z0-9+/=\r\n]+-----END X509 CRL-----\s*")
MOST = 64
UNDERSTOOD = {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE}
WEAK = ("md5", "sha1")
Signed = TypeVar("Signed", x509.Certificate, x509.CertificateRevocationList)


def load_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates of a PEM text, or the one of a DER file.

    Raises:
        ValueError: it is neither.
    """
    with warnings.catch_warnings():
        # VCEKs have the serial number 0. A cryptography that refuses it is not the pinned one.
        warnings.simplefilter("ignore")
        if PEM not in data:
            return (_whole(x509.load_der_x509_certificate(data)),)
        require(data.count(PEM) <= MOST, f"more than {MOST} certificates")
        # The loader skips what is no certificate, and so a damaged one, and whatever is around it.
        require(PEM_TEXT.fullmatch(data) is not None, "damaged certificates, or text around them")
        found = tuple(map(_whole, x509.load_pem_x509_certificates(data)))
        require(len(set(found)) == len(found), "a certificate occurs twice")
        return found


def _whole(found: Signed) -> Signed:
    """Its signature has whole bytes: how many bits of the last one count is not signed, and not looked at."""
    der, size = found.public_bytes(Encoding.DER), len(found.signature)
    if der[-size - 1]:
        what = common_name(found) if isinstance(found, x509.Certificate) else "a revocation list"
        raise NotProven(f"the signature of {what} has a part of a byte")
    return found


def load_crl(data: bytes) -> x509.CertificateRevocationList:
    """The revocation list of a PEM or DER file.

    Raises:
        ValueError: it is neither.
    """
    if PEM_CRL not in data:
        return _whole(x509.load_der_x509_crl(data))
    require(PEM_CRL_TEXT.fullmatch(data) is not None, "a damaged revocation list, several, or text around it")
    return _whole(x509.load_pem_x509_crl(data))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of its DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def common_name(certificate: x509.Certificate) -> str:
    """Its subject's common name; empty when it has none, or several."""
    return _common_name(certificate.subject)


def issuer_name(certificate: x509.Certificate) -> str:
    """The same of its issuer."""
    return _common_name(certificate.issuer)


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def verify_chain(chain: Sequence[x509.Certificate], critical: frozenset[x509.ObjectIdentifier] = frozenset()) -> str:
    """Each certificate, the leaf first, is signed by the next one; the last one by itself.

    The outer signature algorithm is compared with the signed one by `verify_directly_issued_by`, unlike by a plain
    verification of the signed bytes.

    Args:
        critical: extensions that the caller checks.

    Raises:
        NotProven: one is no authority, or has a critical extension that nobody checks.
        Exception: a signature is wrong.
    """
    for depth, (certificate, issuer) in enumerate(pairwise((*chain, chain[-1]))):
        _verify_issued(certificate, issuer)
        _require_authority(issuer, min(depth, len(chain) - 2))
        for extension in certificate.extensions:
            require(not extension.critical or extension.oid in UNDERSTOOD | critical,
                    f"{common_name(certificate)}: unknown critical extension {extension.oid.dotted_string}")
    return " <- ".join(common_name(certificate) or "(no name)" for certificate in chain)


def _verify_issued(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    name = common_name(certificate)
    hashed = certificate.signature_hash_algorithm
    require(hashed is not None and hashed.name not in WEAK, f"{name}: signed with a weak or unknown hash")
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception as error:
        raise NotProven(f"{name} is not signed by {common_name(issuer)} ({type(error).__name__})") from error


def _require_authority(issuer: x509.Certificate, below: int) -> None:
    """An issuer of certificates, with at most so many intermediates below it."""
    name = common_name(issuer)
    values = {type(extension.value): extension.value for extension in issuer.extensions}
    constraints, usage = values.get(x509.BasicConstraints), values.get(x509.KeyUsage)
    if not isinstance(constraints, x509.BasicConstraints) or not constraints.ca:
        raise NotProven(f"{name} is no certificate authority")
    require(constraints.path_length is None or below <= constraints.path_length, f"{name}: the chain is too long")
    require(isinstance(usage, x509.KeyUsage) and usage.key_cert_sign, f"{name} may not sign certificates")


def require_leaf(certificate: x509.Certificate) -> None:
    """A certificate that must not issue others.

    Raises:
        NotProven: it may.
    """
    for extension in certificate.extensions:
        require(not (isinstance(extension.value, x509.BasicConstraints) and extension.value.ca),
                f"{common_name(certificate)} is a certificate authority, no leaf")


def verify_dates(chain: Sequence[x509.Certificate], at: datetime) -> str:
    """Each is valid at that time.

    Raises:
        NotProven: one is not.
    """
    for certificate in chain:
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        require(first <= at <= last, f"{common_name(certificate)} is valid from {first:%Y-%m-%d %H:%M} to "
                                     f"{last:%Y-%m-%d %H:%M}, not at {at:%Y-%m-%d %H:%M}")
    until = min(certificate.not_valid_after_utc for certificate in chain)
    return f"valid at {at:%Y-%m-%dT%H:%M:%SZ}, until {until:%Y-%m-%d}"
