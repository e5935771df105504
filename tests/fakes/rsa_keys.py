"""RSA keys of authorities and TPMs that tests are: making one takes up to seconds, in each process that runs tests."""

from __future__ import annotations

import functools
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

KEYS = Path(__file__).parents[1] / "data" / "keys"


@functools.cache
def rsa_key(bits: int, number: int = 1) -> RSAPrivateKey:
    """Another one for each number. They are no secrets, and nothing but tests trusts them."""
    data = (KEYS / f"rsa-{bits}-{number}.pem").read_bytes()
    key = load_pem_private_key(data, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    return key
