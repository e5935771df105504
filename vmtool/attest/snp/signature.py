"""Whose key has signed an SEV-SNP report."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from vmtool.attest.certificates import common_name
from vmtool.attest.snp.chain import NAMES
from vmtool.attest.snp.report import Report


def select_signer(presented: Sequence[x509.Certificate], report: Report) -> list[x509.Certificate]:
    """Of the signing keys' certificates only the first whose key has signed the report, if one has: others are of the
    host's other processors, or of its firmware before an update."""
    veks = [item for item in presented if common_name(item) in NAMES]
    signer = next((item for item in veks if _has_signed(item, report)), None)
    return [item for item in presented if signer in (None, item) or item not in veks]


def _has_signed(certificate: x509.Certificate, report: Report) -> bool:
    try:
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        verify_signature(key, report)
    except Exception:  # also a key of a kind that cryptography does not know
        return False
    return True


def verify_signature(key: ec.EllipticCurvePublicKey, report: Report) -> None:
    """The report is signed by it.

    Raises:
        Exception: it is not.
    """
    key.verify(encode_dss_signature(report.r, report.s), report.signed, ec.ECDSA(SHA384()))
