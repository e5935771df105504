"""Revocation lists: whether they are whole, current and their issuer's, and what is on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vmtool.attest.appraisal import NotChecked, NotRequested, Outdated
from vmtool.attest.certificates import WEAK, common_name
from vmtool.attest.cursor import require


def verify_unrevoked(chain: Sequence[x509.Certificate], crls: Sequence[x509.CertificateRevocationList],
                     at: datetime) -> str:
    """No certificate of the chain is on its issuer's revocation list.

    Raises:
        NotRequested: no list was given at all.
        NotChecked: none of them is of an issuer of the chain.
        NotProven: a certificate is revoked, or a list is not its issuer's.
        Outdated: a list is of another time; that contradicts nothing.
    """
    if not crls:
        raise NotRequested("no revocation list given: --collateral CRL")
    seen: list[str] = []
    other: list[str] = []
    for certificate, issuer in pairwise((*chain, chain[-1])):
        for crl in (crl for crl in crls if crl.issuer == issuer.subject):
            key = issuer.public_key()
            require(isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key),
                    f"the revocation list is not signed by {common_name(issuer)}")
            _require_whole_list(crl, issuer)
            require(crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is None,
                    f"{common_name(certificate)} is revoked")
            other += _outdated(crl, issuer, at)
            seen.append(f"{common_name(certificate)} is not revoked as of {(at - crl.last_update_utc).days} days ago")
    if other:
        raise Outdated("; ".join(other))
    if not seen:
        raise NotChecked("the revocation lists are of other issuers")
    return ", ".join(seen)


def _require_whole_list(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> None:
    """It is of an issuer that may sign lists, by a hash that counts, and of all its certificates: one of a part of them
    (a delta, or by a distribution point) says so in a critical extension (RFC 5280, 5.2)."""
    name, hashed = common_name(issuer), crl.signature_hash_algorithm
    usages = [item.value for item in issuer.extensions if isinstance(item.value, x509.KeyUsage)]
    require(all(usage.crl_sign for usage in usages), f"{name} may not sign revocation lists")
    require(hashed is not None and hashed.name not in WEAK, f"the revocation list of {name} has a weak or unknown hash")
    critical = [item.oid.dotted_string for item in crl.extensions if item.critical]
    require(not critical, f"the revocation list of {name} is not of all its certificates: {', '.join(critical)}")


def _outdated(crl: x509.CertificateRevocationList, issuer: x509.Certificate, at: datetime) -> Iterator[str]:
    """Why a list is not of that time."""
    name, until = common_name(issuer), crl.next_update_utc
    if crl.last_update_utc > at:
        yield f"the revocation list of {name} is from the future ({crl.last_update_utc})"
    if until is None or at > until:
        yield f"the revocation list of {name} has expired ({until})"
