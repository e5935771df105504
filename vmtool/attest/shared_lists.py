"""Revocation lists where several kinds of evidence share one collateral: one of another kind's maker says nothing of a
kind, and is left out for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vmtool.attest.appraisal import NotChecked
from vmtool.attest.request import Request

if TYPE_CHECKING:
    from cryptography import x509

# How the files with a kind's roots begin. Tokens of CCA are verified with keys, of which there are no lists.
ROOTS_OF = {"snp": "amd-", "tdx": "intel-sgx", "nvidia": "nvidia-", "tpm": "tpm-", "virtcca": "virtcca-"}


def leave_out_foreign(request: Request, kind: str, others: Iterable[str],
                      presented: Iterable[x509.Certificate]) -> Request:
    """Without the lists that an authority of another kind, and none of this kind, has signed.

    Args:
        others: kinds that the same collateral is for. Without one, a list of others is one that was given by mistake.
        presented: certificates that came with the evidence; like the collateral's they lead to a root or to nothing.
    """
    crls, beside = request.collateral.crls, set(others) - {kind}
    if not crls or not beside:
        return request
    candidates = {*request.collateral.certificates, *presented}
    own = set(_authorities(request, kind, candidates))
    foreign = {item for other in beside for item in _authorities(request, other, candidates)} - own
    kept = tuple(crl for crl in crls if any(item.subject == crl.issuer for item in own) or not any(
        _has_signed(item, crl) for item in foreign))
    return replace(request, collateral=replace(request.collateral, crls=kept))


def _authorities(request: Request, kind: str, candidates: set[x509.Certificate]) -> Iterator[x509.Certificate]:
    """The kind's roots, and all certificates that lead to them by their signatures."""
    try:
        found = set(request.roots.certificates(ROOTS_OF[kind]))
    except (KeyError, NotChecked):
        return
    fresh = found
    while fresh:
        yield from fresh
        fresh = {item for item in candidates - found if any(_has_issued(above, item) for above in fresh)}
        found |= fresh


def _has_issued(above: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(above)
    except Exception:  # another name, a signature that is wrong, or a kind of key that cryptography does not know
        return False
    return True


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    if authority.subject != crl.issuer:
        return False
    key = authority.public_key()
    return isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
