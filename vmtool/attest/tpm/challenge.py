"""What whoever asks a TPM to activate a credential keeps until the answer: of which keys it was, and its secret's
digest."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtensionOID

from vmtool.attest.appraisal import NotChecked, NotProven, NotRequested
from vmtool.attest.certificates import common_name, fingerprint, require_leaf, verify_chain, verify_dates
from vmtool.attest.cose import PublicKey
from vmtool.attest.cursor import require
from vmtool.attest.find_chain import find_path
from vmtool.attest.request import Request
from vmtool.attest.revocation import verify_unrevoked
from vmtool.attest.tpm.credential import SECRET, make_credential
from vmtool.attest.tpm.evidence_json import parse_evidence
from vmtool.attest.tpm.structures import parse_public
from vmtool.frozen import dataclass
from vmtool.records import record_of, record_text

# An EK's certificate names the TPM there, and is critical when its subject is empty.
CRITICAL = frozenset({ExtensionOID.SUBJECT_ALTERNATIVE_NAME})
# tcg-kp-EKCertificate: without it any certificate of the maker would do.
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
# tcg-kp-AIKCertificate.
AK_USAGE = x509.ObjectIdentifier("2.23.133.8.3")


@dataclass(frozen=True)
class Challenge:
    """Hexadecimal texts.

    Args:
        endorsement: SHA-256 of the EK's certificate; key: name of the attestation key.
        secret: SHA-256 of the secret that only that TPM can tell.
    """

    endorsement: str
    key: str
    secret: str


def challenge_for(value: Any, request: Request) -> tuple[bytes, str]:
    """A new challenge for the TPM of some evidence: the file for it, and the one to keep.

    Raises:
        NotProven: the key is no attestation key, or no trusted maker made the TPM.
        NotChecked: no such makers are known.
    """
    presented = parse_evidence(value)
    require(bool(presented.endorsement), "it has no certificate of the endorsement key (ek_certificate)")
    return challenge_of(presented.key, presented.endorsement, request)


def challenge_of(public: bytes, certificates: Sequence[x509.Certificate], request: Request) -> tuple[bytes, str]:
    """As `challenge_for`, of an attestation key's public part, and of an EK's certificate with its intermediates."""
    key = parse_public(public)
    key.require_restricted()
    first, *more = certificates
    chain = find_path(first, (*more, *request.collateral.certificates), request.roots.certificates("tpm-"))
    verify_endorsement(chain)
    verify_dates(chain, request.at)
    with contextlib.suppress(NotChecked, NotRequested):  # lists may be of others: the answer's verification says so
        verify_unrevoked(chain, request.collateral.crls, request.at)
    return make_challenge(first, key.name)


def make_challenge(certificate: x509.Certificate, key: bytes) -> tuple[bytes, str]:
    """A new challenge: the file for the TPM, and the one to keep."""
    secret = os.urandom(SECRET)
    kept = Challenge(fingerprint(certificate), key.hex(), hashlib.sha256(secret).hexdigest())
    return make_credential(endorsement_key(certificate), key, secret), record_text(kept)


def read_challenge(data: bytes) -> Challenge:
    """The inverse of its text.

    Raises:
        ValueError: it is none, or was changed.
    """
    return record_of(Challenge, data)


def endorsement_key(certificate: x509.Certificate) -> PublicKey:
    """The EK.

    Raises:
        NotProven: it is neither of RSA nor of EC.
    """
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise NotProven("the endorsement key is neither of RSA nor of EC")
    return key


def verify_endorsement(chain: Sequence[x509.Certificate]) -> str:
    """From an EK's certificate to a root of a TPM maker that is trusted. Its dates are a check of its own.

    Raises:
        NotProven: a signature is wrong, or the certificate is none of an EK.
    """
    require_leaf(chain[0])
    usages = [item.value for item in chain[0].extensions if isinstance(item.value, x509.ExtendedKeyUsage)]
    require(any(EK_USAGE in usage for usage in usages), "the certificate is not one of an endorsement key")
    return verify_chain(chain, CRITICAL)


def require_attestation_key(certificate: x509.Certificate) -> None:
    """A certificate that limits its key's use has signing among it, and attestation: what the public area says of a key
    is not signed, so any other key that the same makers certify would do.

    Raises:
        NotProven: it is of another use.
    """
    for value in (item.value for item in certificate.extensions):
        require(not isinstance(value, x509.KeyUsage) or value.digital_signature,
                f"{common_name(certificate)}: its key is not for signatures")
        require(not isinstance(value, x509.ExtendedKeyUsage) or AK_USAGE in value,
                f"{common_name(certificate)} is not one of an attestation key")


def verify_activation(challenge: Challenge, certificate: x509.Certificate, key: bytes, activated: bytes) -> None:
    """The TPM with that EK has decrypted the secret that was bound to this key.

    Raises:
        NotProven: the challenge was of other keys, or the secret is another.
    """
    require(challenge.endorsement == fingerprint(certificate), "the challenge was for another endorsement key")
    require(challenge.key == key.hex(), "the challenge was for another attestation key")
    require(challenge.secret == hashlib.sha256(activated).hexdigest(), "what was activated is not the challenge's")
