"""COSE_Sign1 (RFC 9052, 4.2) with the algorithms that tokens use (RFC 9053), and keys as tokens carry them."""

from __future__ import annotations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cbor import TEXT, decode, encode_octets
from vmtool.attest.cursor import require
from vmtool.frozen import dataclass

SIGN1 = 18
ALGORITHM = 1
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
# alg -> hash, and the curve; without one it is RSASSA-PSS.
ALGORITHMS: dict[int, tuple[hashes.HashAlgorithm, type[ec.EllipticCurve] | None]] = {
    -7: (hashes.SHA256(), ec.SECP256R1), -35: (hashes.SHA384(), ec.SECP384R1), -36: (hashes.SHA512(), ec.SECP521R1),
    -37: (hashes.SHA256(), None), -38: (hashes.SHA384(), None), -39: (hashes.SHA512(), None)}
LEAST_RSA = 2048
# Uncompressed points by their length, and COSE's numbers of the curves (RFC 9053, 7.1).
POINTS: dict[int, type[ec.EllipticCurve]] = {97: ec.SECP384R1, 133: ec.SECP521R1}
CURVES: dict[int, type[ec.EllipticCurve]] = {1: ec.SECP256R1, 2: ec.SECP384R1, 3: ec.SECP521R1}


@dataclass(frozen=True)
class Sign1:
    """A signed message: its protected header as signed, algorithm, payload and signature."""

    protected: bytes
    algorithm: int
    payload: bytes
    signature: bytes


def parse_sign1(data: bytes) -> Sign1:
    """Read a tagged COSE_Sign1.

    Raises:
        NotProven: it is none, its unprotected header, which nobody signs, is not empty, or its protected one has more
            than the algorithm.
    """
    parts = decode(data, (SIGN1,))
    require(isinstance(parts, list) and len(parts) == 4, "no COSE_Sign1")
    protected, unprotected, payload, signature = parts
    require(all(isinstance(part, bytes) for part in (protected, payload, signature)), "COSE_Sign1 without bytes")
    require(unprotected == {} and isinstance(unprotected, dict), "the unprotected header of COSE_Sign1 is not empty")
    header = decode(protected)
    require(isinstance(header, dict) and list(header) == [ALGORITHM], "the protected header is not just an algorithm")
    require(header[ALGORITHM] in ALGORITHMS, f"COSE algorithm {header[ALGORITHM]} is unknown")
    return Sign1(protected, header[ALGORITHM], payload, signature)


def verify_sign1(message: Sign1, key: PublicKey) -> str:
    """The message is signed by the key, by the algorithm that it names.

    Raises:
        NotProven: the key does not fit the algorithm.
        InvalidSignature: it is not.
    """
    signed = b"\x84" + encode_octets(b"Signature1", TEXT) + encode_octets(message.protected) + encode_octets(
        b"") + encode_octets(message.payload)
    hashed, curve = ALGORITHMS[message.algorithm]
    if isinstance(key, ec.EllipticCurvePublicKey):
        require(curve is not None and isinstance(key.curve, curve), "the key is not on the algorithm's curve")
        size = (key.curve.key_size + 7) // 8
        require(len(message.signature) == 2 * size, "the signature has the wrong length")
        r, s = (int.from_bytes(part, "big") for part in (message.signature[:size], message.signature[size:]))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashed))
        return f"ECDSA {key.curve.name} with {hashed.name}"
    require(curve is None and key.key_size >= LEAST_RSA, "the key does not fit the algorithm")
    key.verify(message.signature, signed, padding.PSS(padding.MGF1(hashed), hashed.digest_size), hashed)
    return f"RSASSA-PSS with {hashed.name}"


def load_key(data: bytes) -> PublicKey:
    """A key as a token carries it: a point, a COSE_Key, or a DER SubjectPublicKeyInfo.

    Raises:
        NotProven: it is none of these.
    """
    if len(data) in POINTS and data[0] == 4:
        return ec.EllipticCurvePublicKey.from_encoded_point(POINTS[len(data)](), data)
    if data[:1] == b"\x30":
        key = load_der_public_key(data)
        if isinstance(key, PublicKey):
            return key
        raise NotProven("the token's key is neither of EC nor of RSA")
    return _cose_key(data)


def _cose_key(data: bytes) -> ec.EllipticCurvePublicKey:
    parts = decode(data)
    require(isinstance(parts, dict) and parts.keys() == {1, -1, -2, -3} and parts[1] == 2 and parts[-1] in CURVES
            and isinstance(parts[-2], bytes) and isinstance(parts[-3], bytes), "the token's key is no COSE_Key of EC")
    curve = CURVES[parts[-1]]()
    size = (curve.key_size + 7) // 8
    require(len(parts[-2]) == len(parts[-3]) == size, "a coordinate of the token's key has the wrong length")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + parts[-2] + parts[-3])
