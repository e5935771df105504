"""What a maker of TPMs and the TPM with its endorsement key do, made by tests."""

from __future__ import annotations

import hmac
from typing import Any

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tests.fakes.rsa_keys import rsa_key
from tests.unit.attest.make_certificates import Form, issue
from tests.unit.attest.make_tpm import KEY, name
from vmtool.attest.request import Roots
from vmtool.attest.tpm.credential import kdfa, template_of
from vmtool.serving.evidence.tpm_endorsement import MAGIC

MAKER = issue("TPM Maker")
ROOTS = Roots({"tpm-maker.pem": MAKER.pem})
EK_USAGE = [("2.5.29.37", bytes.fromhex("300706056781050801"))]
EK = issue("EK", MAKER, Form(authority=False, serial=5, extensions=EK_USAGE), key=rsa_key(2048, 1))
OTHER_EK = issue("EK", MAKER, Form(authority=False, extensions=EK_USAGE), key=rsa_key(2048, 2))
NAME = bytes.fromhex(name(KEY))
OTHER = ec.generate_private_key(ec.SECP256R1())


def activate(key: Any, credential: bytes, name: bytes) -> bytes:
    """TPM2_ActivateCredential, as the TPM with this EK does it for a key of this name.

    Raises:
        ValueError: the credential is for another key.
    """
    assert credential.startswith(MAGIC)
    blob, rest = cut(credential[len(MAGIC):])
    encrypted, end = cut(rest)
    assert not end
    template = template_of(key.public_key())
    if isinstance(key, rsa.RSAPrivateKey):
        seed = key.decrypt(encrypted, padding.OAEP(padding.MGF1(template.algorithm), template.algorithm, b"IDENTITY\0"))
    else:
        x, more = cut(encrypted)
        y, _ = cut(more)
        point = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), key.curve)
        own = key.public_key().public_numbers().x.to_bytes(len(x), "big")
        seed = template.hashed(b"\0\0\0\1" + key.exchange(ec.ECDH(), point.public_key()) + b"IDENTITY\0" + x + own
                               ).digest()
    integrity, identity = cut(blob)
    expected = hmac.digest(kdfa(template, seed, b"INTEGRITY", b"", 8 * template.hashed().digest_size), identity + name,
                           template.hashed)
    if integrity != expected:
        raise ValueError("integrity")
    cipher = Cipher(algorithms.AES(kdfa(template, seed, b"STORAGE", name, template.bits)), CFB(bytes(16))).decryptor()
    return cut(cipher.update(identity))[0]


def cut(data: bytes) -> tuple[bytes, bytes]:
    size = int.from_bytes(data[:2], "big")
    return data[2:2 + size], data[2 + size:]
