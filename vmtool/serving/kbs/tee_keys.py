"""The guest's key in an exchange: the broker encrypts to its public part, which evidence vouches for.

RSAES-PKCS1-v1_5 (RSA1_5) is refused: whoever can send ciphertexts to its owner can decrypt with it (Bleichenbacher).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.kbs.base64url import decode, encode

ECDH, OAEP = "ECDH-ES+A256KW", "RSA-OAEP-256"
# Curves by JOSE's names, and the bytes of a coordinate.
CURVES: Mapping[str, tuple[ec.EllipticCurve, int]] = {"P-256": (ec.SECP256R1(), 32), "P-521": (ec.SECP521R1(), 66)}
LEAST_RSA, MOST_RSA = 2048, 8192
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_MEMBERS = {"EC": {"kty", "crv", "alg", "x", "y"}, "RSA": {"kty", "alg", "n", "e"}}


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that Trustee's own client makes; it is used for one exchange."""
    return ec.generate_private_key(ec.SECP256R1())


def key_algorithm(key: PublicKey | PrivateKey) -> str:
    """The only algorithm that a key is used with."""
    return OAEP if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) else ECDH


def jwk_of(key: PublicKey) -> dict[str, str]:
    """The key as `tee-pubkey` has it."""
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "alg": OAEP, "n": encode(_octets(numbers.n)), "e": encode(_octets(numbers.e))}
    return {"kty": "EC", "crv": curve_name(key.curve), "alg": ECDH, **coordinates(key)}


def curve_name(curve: ec.EllipticCurve) -> str:
    """JOSE's name of it.

    Raises:
        Untrusted: it is none of the protocol's.
    """
    for name, (known, _) in CURVES.items():
        if known.name == curve.name:
            return name
    raise Untrusted(f"the curve {curve.name} is none of {', '.join(CURVES)}")


def coordinates(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """x and y, each of the curve's length (RFC 7518, 6.2.1.2)."""
    numbers, size = key.public_numbers(), CURVES[curve_name(key.curve)][1]
    return {"x": encode(numbers.x.to_bytes(size)), "y": encode(numbers.y.to_bytes(size))}


def public_key(jwk: Any) -> PublicKey:
    """The key of a `tee-pubkey`.

    Raises:
        Untrusted: it is of another kind or algorithm, or not a point, or too short.
    """
    kind = jwk.get("kty") if isinstance(jwk, dict) else None
    if not isinstance(kind, str) or set(jwk) != _MEMBERS.get(kind) or not all(
            isinstance(value, str) for value in jwk.values()):
        raise Untrusted("tee-pubkey: a JWK of EC (kty, crv, alg, x, y) or of RSA (kty, alg, n, e) was expected")
    if jwk["alg"] != (ECDH if kind == "EC" else OAEP):
        raise Untrusted(f"tee-pubkey: the algorithm {jwk['alg'][:40]!r} is refused: {ECDH} or {OAEP}")
    return point(jwk["crv"], jwk["x"], jwk["y"], "tee-pubkey") if kind == "EC" else _rsa(jwk)


def point(curve: object, x: object, y: object, what: str) -> ec.EllipticCurvePublicKey:
    """A public key by its coordinates.

    Raises:
        Untrusted: it is no point of a known curve.
    """
    if not isinstance(curve, str) or curve not in CURVES:
        raise Untrusted(f"{what}: its curve is none of {', '.join(CURVES)}")
    known, size = CURVES[curve]
    place = b"\4" + decode(x, f"{what}: x", size) + decode(y, f"{what}: y", size)
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(known, place)
    except ValueError:
        raise Untrusted(f"{what}: not a point of {curve}") from None


def _rsa(jwk: Mapping[str, str]) -> rsa.RSAPublicKey:
    n, e = (int.from_bytes(decode(jwk[name], f"tee-pubkey: {name}")[:MOST_RSA // 8 + 1]) for name in "ne")
    if not LEAST_RSA <= n.bit_length() <= MOST_RSA or not 3 <= e < 1 << 32:
        raise Untrusted(f"tee-pubkey: RSA of {LEAST_RSA} to {MOST_RSA} bits was expected")
    try:
        return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError:
        raise Untrusted("tee-pubkey: not an RSA key") from None


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
