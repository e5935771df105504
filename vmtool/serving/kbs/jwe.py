"""A resource on its way: JWE (RFC 7516) in the flattened JSON form, just as Trustee's Rust client reads it.

That client makes the associated data again from what it parsed, so the protected header must have these members in
this order, and `epk` inside it: libraries put `epk` beside it, which the client does not find. Hence by hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import strict_json
from vmtool.serving.kbs.base64url import decode, encode
from vmtool.serving.kbs.tee_keys import (
    ECDH,
    PrivateKey,
    PublicKey,
    coordinates,
    curve_name,
    key_algorithm,
    point,
)

ENC, IV, TAG, KEY, WRAPPED = "A256GCM", 12, 16, 32, 40
MOST = 1 << 20
_MEMBERS = {"protected", "encrypted_key", "iv", "ciphertext", "tag"}
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def seal(key: PublicKey, plaintext: bytes) -> dict[str, str]:
    """Encrypt to a guest's key."""
    content, iv, header = os.urandom(KEY), os.urandom(IV), {"alg": key_algorithm(key), "enc": ENC}
    more: dict[str, Any] = {}
    if isinstance(key, rsa.RSAPublicKey):
        wrapped = key.encrypt(content, _OAEP)
    else:
        own = ec.generate_private_key(key.curve)
        wrapped = keywrap.aes_key_wrap(_agreed(own, key), content)
        more = {"epk": {"crv": curve_name(key.curve), "kty": "EC", **coordinates(own.public_key())}}
    protected = encode(json.dumps(header | more, separators=(",", ":")).encode())
    sealed = AESGCM(content).encrypt(iv, plaintext, protected.encode())
    return {"protected": protected, "encrypted_key": encode(wrapped), "iv": encode(iv),
            "ciphertext": encode(sealed[:-TAG]), "tag": encode(sealed[-TAG:])}


def unseal(key: PrivateKey, document: Any) -> bytes:
    """Decrypt what was encrypted to this key.

    Raises:
        Untrusted: it is of another form, by another algorithm, for another key, or was changed.
    """
    if not isinstance(document, dict) or set(document) != _MEMBERS:
        raise Untrusted(f"not a JWE: it has {', '.join(sorted(_MEMBERS))}, and nothing else")
    if not all(isinstance(value, str) and len(value) <= MOST for value in document.values()):
        raise Untrusted("not a JWE: each member is a text, and not too long")
    header = _header(document["protected"])
    parts = {name: decode(document[name], f"the JWE's {name}", length) for name, length in (
        ("encrypted_key", None), ("iv", IV), ("ciphertext", None), ("tag", TAG))}
    content = _unwrapped(key, header, parts["encrypted_key"])
    try:
        return AESGCM(content).decrypt(parts["iv"], parts["ciphertext"] + parts["tag"],
                                       document["protected"].encode())
    except InvalidTag:
        raise Untrusted("the JWE was changed on its way, or is another guest's") from None


def _header(text: str) -> Mapping[str, Any]:
    """An unknown member may change what all the others mean (RFC 7516, 4.1.13), so there is none."""
    header = strict_json(decode(text, "the JWE's protected header"), "the JWE's protected header")
    if not isinstance(header, dict) or not {"alg", "enc"} <= set(header) <= {"alg", "enc", "epk"}:
        raise Untrusted("the JWE's protected header has alg, enc and perhaps epk, and nothing else")
    if header["enc"] != ENC:
        raise Untrusted(f"the JWE is encrypted with {str(header['enc'])[:40]!r}, and {ENC} was expected")
    return header


def _unwrapped(key: PrivateKey, header: Mapping[str, Any], wrapped: bytes) -> bytes:
    """The content's key; a wrong one cannot be distinguished from a changed one."""
    if header["alg"] != key_algorithm(key) or ("epk" in header) != (header["alg"] == ECDH):
        raise Untrusted(f"the JWE's algorithm is {str(header['alg'])[:40]!r}, and {key_algorithm(key)} was expected")
    try:
        if isinstance(key, rsa.RSAPrivateKey):
            content = key.decrypt(wrapped, _OAEP)
        else:
            content = keywrap.aes_key_unwrap(_agreed(key, _epk(header["epk"], key)), wrapped)
    except (ValueError, keywrap.InvalidUnwrap) as error:
        if isinstance(error, Untrusted):
            raise
        raise Untrusted("the JWE's key does not open: it was changed, or is another guest's") from None
    if len(content) != KEY:
        raise Untrusted(f"the JWE's key has {len(content)} bytes, and {KEY} were expected")
    return content


def _epk(value: Any, key: ec.EllipticCurvePrivateKey) -> ec.EllipticCurvePublicKey:
    if not isinstance(value, dict) or set(value) != {"crv", "kty", "x", "y"} or value["kty"] != "EC" or (
            value["crv"] != curve_name(key.curve)):
        raise Untrusted("the JWE's epk is not a key on the guest's curve")
    return point(value["crv"], value["x"], value["y"], "the JWE's epk")


def _agreed(own: ec.EllipticCurvePrivateKey, other: ec.EllipticCurvePublicKey) -> bytes:
    """The key that wraps (RFC 7518, 4.6.2): algorithm, no parties, 256 bits."""
    name = ECDH.encode()
    info = len(name).to_bytes(4) + name + bytes(8) + (8 * KEY).to_bytes(4)
    return ConcatKDFHash(hashes.SHA256(), KEY, info).derive(own.exchange(ec.ECDH(), other))
