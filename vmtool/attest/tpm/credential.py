"""A challenge that only the TPM with a certain endorsement key (EK) can answer, and only about a key of its own.

TPM2_MakeCredential in software (TPM 2.0 Library, part 1, 24 and annexes B.10.4 and C.7.4): a secret, encrypted to the
EK and bound to the name of an attestation key. TPM2_ActivateCredential gives it back when both are in that TPM.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cose import PublicKey
from vmtool.frozen import dataclass
from vmtool.serving.evidence.tpm_commands import sized
from vmtool.serving.evidence.tpm_endorsement import MAGIC

SECRET = 32
IDENTITY = b"IDENTITY"


@dataclass(frozen=True)
class Template:
    """What goes with the size of an EK (TCG EK Credential Profile, B.3 and B.4): hash, and bits of its AES key."""

    hashed: Callable[..., Any]
    algorithm: hashes.HashAlgorithm
    bits: int


LOW, HIGH = Template(hashlib.sha256, hashes.SHA256(), 128), Template(hashlib.sha384, hashes.SHA384(), 256)
TEMPLATES = {("rsa", 2048): LOW, ("secp256r1", 256): LOW, ("rsa", 3072): HIGH, ("rsa", 4096): HIGH,
             ("secp384r1", 384): HIGH}


def template_of(key: PublicKey) -> Template:
    """The template of an EK.

    Raises:
        NotProven: no TPM has such an EK.
    """
    kind = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "rsa"
    found = TEMPLATES.get((kind, key.key_size))
    if found is None:
        raise NotProven(f"{kind} of {key.key_size} bits is no endorsement key")
    return found


def make_credential(key: PublicKey, name: bytes, secret: bytes) -> bytes:
    """The challenge, as a file of tpm2-tools.

    Args:
        key: the EK; name: of the attestation key.
        secret: at most as long as a digest.
    """
    template = template_of(key)
    seed, encrypted = _rsa_seed(key, template) if isinstance(key, rsa.RSAPublicKey) else _ec_seed(key, template)
    size = 8 * template.hashed().digest_size
    cipher = Cipher(algorithms.AES(kdfa(template, seed, b"STORAGE", name, template.bits)), CFB(bytes(16))).encryptor()
    identity = cipher.update(sized(secret)) + cipher.finalize()
    integrity = hmac.digest(kdfa(template, seed, b"INTEGRITY", b"", size), identity + name, template.hashed)
    return MAGIC + sized(sized(integrity) + identity) + sized(encrypted)


def _rsa_seed(key: rsa.RSAPublicKey, template: Template) -> tuple[bytes, bytes]:
    seed = os.urandom(template.hashed().digest_size)
    return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(template.algorithm), template.algorithm, IDENTITY + b"\0"))


def _ec_seed(key: ec.EllipticCurvePublicKey, template: Template) -> tuple[bytes, bytes]:
    ours = ec.generate_private_key(key.curve)
    size = (key.key_size + 7) // 8
    point, theirs = ours.public_key().public_numbers(), key.public_numbers()
    x, y = point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")
    shared = ours.exchange(ec.ECDH(), key)
    # KDFe, of which one round is enough for a digest's bits.
    seed = template.hashed((1).to_bytes(4, "big") + shared + IDENTITY + b"\0" + x + theirs.x.to_bytes(size, "big"))
    return seed.digest(), sized(x) + sized(y)


def kdfa(template: Template, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """The key derivation of part 1, 11.4.10.2 (SP800-108 in counter mode), of at most one digest."""
    data = (1).to_bytes(4, "big") + label + b"\0" + context + bits.to_bytes(4, "big")
    return hmac.digest(key, data, template.hashed)[:bits // 8]
