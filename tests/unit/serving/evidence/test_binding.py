"""What evidence is bound to: the same bytes for both sides, and no certificate that two readers read differently."""

from __future__ import annotations

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.attest.make_certificates import Form, issue
from vmtool.serving.evidence.binding import NO_KEY, bind, key_digest, public_key_info, report_data

NONCE, KEY = bytes(range(32)), bytes(range(32, 64))
EC = issue("server", None, Form(authority=False))


def test_the_layout_is_the_documented_one() -> None:
    bound = bind(NONCE, KEY)
    assert bound == hashlib.sha256(b"vmtool evidence 1\0" + NONCE + KEY).digest()
    assert bound.hex() == "bfd9eedf20948fd2509b08e7ce0e9b57d1afb406fb8d80c101961f9bb0285340"
    assert report_data(bound) == bound + bytes(32)
    assert bind(NONCE, NO_KEY) != bound != bind(KEY, NONCE)


@pytest.mark.parametrize(("nonce", "key"), [(NONCE[:-1], KEY), (NONCE + b"\0", KEY), (NONCE, b""), (b"", KEY)])
def test_nothing_of_another_size_is_bound(nonce: bytes, key: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        bind(nonce, key)


@pytest.mark.parametrize("key", ["p256", "p521", "rsa", "ed25519"])
def test_the_key_is_cut_out_as_a_library_does(key: str) -> None:
    made = issue("server" * 10, EC, Form(authority=False, extensions=[("1.2.3.4", b"x" * 300)]), key={
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "rsa": lambda: rsa.generate_private_key(65537, 2048), "ed25519": ed25519.Ed25519PrivateKey.generate}[key]())
    expected = made.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_info(made.der) == expected
    assert key_digest(made.der) == hashlib.sha256(expected).digest()


def test_no_cut_certificate_has_a_key() -> None:
    for size in range(len(EC.der)):
        with pytest.raises(ValueError, match="no certificate"):
            public_key_info(EC.der[:size])


@given(st.binary(max_size=400))
def test_bytes_that_are_none_are_refused(data: bytes) -> None:
    try:
        public_key_info(data)
    except ValueError:
        return


@given(st.integers(0, len(EC.der) - 1), st.integers(1, 255))
def test_a_damaged_certificate_gives_no_other_key_than_a_library_reads(place: int, mask: int) -> None:
    data = EC.der[:place] + bytes((EC.der[place] ^ mask,)) + EC.der[place + 1:]
    try:
        read = x509.load_der_x509_certificate(data).public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception:  # a library refuses it; TLS would
        return
    try:
        assert public_key_info(data) == read
    except ValueError:
        return
