"""JWE and the guest's keys, judged by two libraries and by recorded exchanges."""

from __future__ import annotations

import base64
import copy
import itertools
import json
from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import ECKey, RSAKey
from jwcrypto import jwe as jwcrypto_jwe
from jwcrypto import jwk as jwcrypto_jwk

from tests.unit.attest.cases import FOUND, needs_vectors, vector
from vmtool.broker.digests import device_digest, report_digest
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.kbs.jwe import seal, unseal
from vmtool.serving.kbs.runtime_data import canonical, device_data, report_data
from vmtool.serving.kbs.tee_keys import OAEP, jwk_of, key_algorithm, public_key

SECRET = b'{"kty":"oct","k":"..."}'
EXCHANGES: dict[str, Any] = {name: each for name, each in json.loads(vector("kbs/exchange-0.4.0.json")).items()
                             if "exchange" in each} if FOUND else {}
KEYS: dict[str, Any] = {"P-256": ec.generate_private_key(ec.SECP256R1()), "P-521": ec.generate_private_key(
    ec.SECP521R1()), "RSA": rsa.generate_private_key(65537, 2048)}
EACH = pytest.mark.parametrize("kind", KEYS)


def pem(key: Any) -> bytes:
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def unpadded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@EACH
def test_what_is_sealed_comes_back(kind: str) -> None:
    key = KEYS[kind]
    assert unseal(key, seal(key.public_key(), SECRET)) == SECRET
    assert public_key(jwk_of(key.public_key())).public_numbers() == key.public_key().public_numbers()


@EACH
def test_both_libraries_read_what_is_sealed(kind: str) -> None:
    key, sealed = KEYS[kind], json.dumps(seal(KEYS[kind].public_key(), SECRET))
    algorithms = [key_algorithm(key), "A256GCM"]
    token = jwcrypto_jwe.JWE(algs=algorithms)
    token.deserialize(sealed, jwcrypto_jwk.JWK.from_pem(pem(key)))
    assert token.payload == SECRET
    imported: Any = (RSAKey if kind == "RSA" else ECKey).import_key(pem(key).decode())
    assert joserfc_jwe.decrypt_json(json.loads(sealed), imported, algorithms=algorithms).plaintext == SECRET


@EACH
def test_what_a_library_seals_is_read(kind: str) -> None:
    """In the compact form both put all of the header under protection, as the protocol has it."""
    key = KEYS[kind]
    token = jwcrypto_jwe.JWE(SECRET, json.dumps({"alg": key_algorithm(key), "enc": "A256GCM"}),
                             algs=[key_algorithm(key), "A256GCM"])
    token.add_recipient(jwcrypto_jwk.JWK.from_pem(pem(key)))
    names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    assert unseal(key, dict(zip(names, token.serialize(compact=True).split("."), strict=True))) == SECRET


@EACH
def test_the_protected_header_is_as_trustees_client_makes_it_anew(kind: str) -> None:
    """Its order counts: the client computes the associated data from what it has parsed."""
    sealed = seal(KEYS[kind].public_key(), SECRET)
    text = base64.urlsafe_b64decode(sealed["protected"] + "==")
    header = json.loads(text)
    assert list(header) == (["alg", "enc"] if kind == "RSA" else ["alg", "enc", "epk"])
    assert kind == "RSA" or list(header["epk"]) == ["crv", "kty", "x", "y"]
    assert text == json.dumps(header, separators=(",", ":")).encode()
    assert set(sealed) == {"protected", "encrypted_key", "iv", "ciphertext", "tag"}


@needs_vectors
@pytest.mark.parametrize("name", EXCHANGES)
def test_recorded_exchanges_are_read(name: str) -> None:
    each = EXCHANGES[name]
    key: Any = load_pem_private_key(each["tee_private_key_pem"].encode(), None)
    attest, resource = each["exchange"][1]["request"]["body"], each["exchange"][2]["response"]["body"]
    assert unseal(key, resource) == each["plaintext"].encode()
    runtime = attest["runtime-data"]
    assert jwk_of(key.public_key()) == runtime["tee-pubkey"]
    more = attest["tee-evidence"]["additional_evidence"]
    assert report_data(runtime["nonce"], runtime["tee-pubkey"], more).hex() == each["report_data_sha384_hex"]
    assert canonical({"additional-evidence": more, **runtime}).decode() == each["runtime_data_canonical"]


def test_known_answers_of_trustees_own_tests() -> None:
    header = canonical({"alg": "fakealg", "enc": "fakeenc"})
    assert unpadded(header) == "eyJhbGciOiJmYWtlYWxnIiwiZW5jIjoiZmFrZWVuYyJ9"


@given(st.text(), st.text())
def test_guest_and_broker_hash_the_same_bytes(nonce: str, additional: str) -> None:
    """The guest has no library for canonical JSON; the broker's is the judge."""
    jwk = jwk_of(KEYS["P-256"].public_key())
    try:
        assert canonical({"b": nonce, "a": {"d": additional}}) == rfc8785.dumps({"b": nonce, "a": {"d": additional}})
        assert report_data(nonce, jwk, additional) == report_digest(nonce, jwk, additional)
        assert device_data(nonce, jwk) == device_digest(nonce, jwk)
    except UnicodeEncodeError:
        with pytest.raises(rfc8785.CanonicalizationError):
            rfc8785.dumps([nonce, additional])


def changed(member: str, value: object) -> Any:
    return lambda sealed: sealed | {member: value}


def header_with(**values: object) -> Any:
    """The protected header with other values; None takes one away."""
    def change(sealed: dict[str, str]) -> dict[str, str]:
        header = json.loads(base64.urlsafe_b64decode(sealed["protected"] + "==")) | values
        text = json.dumps({name: value for name, value in header.items() if value is not None})
        return sealed | {"protected": unpadded(text.encode())}
    return change


@pytest.mark.parametrize("change", [
    changed("tag", "A" * 22), changed("iv", "A" * 16), changed("ciphertext", "AAAA"), changed("encrypted_key", ""),
    changed("encrypted_key", "A" * 54), changed("aad", ""), changed("header", {}), changed("protected", ""),
    changed("protected", "e30"), changed("tag", None), changed("ciphertext", "A" * (2 << 20)), changed("iv", "A=="),
    lambda sealed: {name: value for name, value in sealed.items() if name != "tag"}, lambda sealed: [sealed],
    header_with(alg="none"), header_with(alg="dir"), header_with(alg="RSA1_5"), header_with(alg=OAEP),
    header_with(enc="A128GCM"), header_with(enc="A128CBC-HS256"), header_with(zip="DEF"), header_with(crit=["exp"]),
    header_with(epk=None), header_with(apu="AA"), header_with(epk={"crv": "P-521"}), header_with(epk="x"),
    header_with(epk={"crv": "P-256", "kty": "EC", "x": "A" * 43, "y": "A" * 43}),
    header_with(kid="another"),
])
def test_another_jwe_is_refused(change: Any) -> None:
    key = KEYS["P-256"]
    with pytest.raises(Untrusted):
        unseal(key, change(seal(key.public_key(), SECRET)))


@EACH
def test_what_is_another_guests_is_refused(kind: str) -> None:
    for other in KEYS.values():
        if other is not KEYS[kind]:
            with pytest.raises(Untrusted):
                unseal(KEYS[kind], seal(other.public_key(), SECRET))
    twin = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Untrusted):
        unseal(twin, seal(KEYS["P-256"].public_key(), SECRET))


GOOD = jwk_of(KEYS["P-256"].public_key())
RSA_GOOD = jwk_of(KEYS["RSA"].public_key())


@pytest.mark.parametrize("jwk", [
    None, [], {}, "EC", GOOD | {"d": "AAAA"}, GOOD | {"kty": "RSA"}, GOOD | {"crv": "P-384"}, GOOD | {"alg": "dir"},
    GOOD | {"alg": "ECDH-ES"}, GOOD | {"x": GOOD["y"]}, GOOD | {"x": GOOD["x"] + "="}, GOOD | {"x": GOOD["x"][:-1]},
    GOOD | {"x": 5}, GOOD | {"crv": "P-521"}, RSA_GOOD | {"alg": "RSA1_5"}, RSA_GOOD | {"alg": "RSA-OAEP"},
    RSA_GOOD | {"e": "AQ"}, RSA_GOOD | {"e": "AA"}, RSA_GOOD | {"n": RSA_GOOD["n"][:100]},
    RSA_GOOD | {"n": "_" * 2000}, {"kty": ["EC"]}, {"kty": "AKP", "alg": "ML-KEM-768+A192KW", "pub": "AA"},
    {"kty": "oct", "k": "AA"},
], ids=itertools.count())  # the keys are others in each process
def test_another_key_is_refused(jwk: object) -> None:
    with pytest.raises(Untrusted):
        public_key(copy.deepcopy(jwk))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(
    inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["protected", "encrypted_key", "iv", "ciphertext", "tag", "alg", "enc", "epk", "kty", "crv", "x", "y", "n", "e"]
    ) | st.text(max_size=5), inner, max_size=6), max_leaves=20)


@given(JSON, st.sampled_from(sorted(KEYS)))
def test_no_other_value_opens_or_crashes(value: Any, kind: str) -> None:
    with pytest.raises(Untrusted):
        unseal(KEYS[kind], value)
    with pytest.raises(Untrusted):
        public_key(value)


@given(st.sampled_from(["protected", "encrypted_key", "iv", "ciphertext", "tag"]), st.integers(0, 400),
       st.sampled_from("Aab-_=.+ é"))
def test_no_edited_jwe_opens(member: str, place: int, letter: str) -> None:
    key = KEYS["P-256"]
    sealed = seal(key.public_key(), SECRET)
    text = sealed[member]
    at = place % len(text)
    edited = sealed | {member: text[:at] + letter + text[at + 1:]}
    if edited != sealed:
        with pytest.raises(Untrusted):
            unseal(key, edited)
