"""Keys of CCA platforms, which their makers publish: a JWK (RFC 7517), or Veraison's list of trust anchors."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from vmtool.attest.cursor import require
from vmtool.attest.foreign_json import mapping, parse_json, text
from vmtool.frozen import dataclass

CURVES: dict[str, type[ec.EllipticCurve]] = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
MEMBERS = frozenset({"kty", "crv", "x", "y", "alg", "use", "kid", "key_ops"})


@dataclass(frozen=True)
class PlatformKey:
    """A key that signs platforms' parts of tokens.

    Args:
        name: of its file.
        instance, implementation: of the platform that it is for; None for any.
    """

    name: str
    key: ec.EllipticCurvePublicKey
    instance: bytes | None = None
    implementation: bytes | None = None

    def is_for(self, instance: bytes, implementation: bytes) -> bool:
        """Whether it may sign for that platform."""
        return self.instance in (None, instance) and self.implementation in (None, implementation)


def load_platform_keys(files: Mapping[str, bytes]) -> tuple[PlatformKey, ...]:
    """The keys of all files.

    Raises:
        NotProven: a file is no key.
    """
    return tuple(key for name, data in files.items() for key in _from_file(name, parse_json(data)))


def _from_file(name: str, value: Any) -> Iterator[PlatformKey]:
    if not isinstance(value, list):
        yield PlatformKey(name, load_jwk(value))
        return
    for item in value:
        anchor = mapping(item, name, frozenset({"instance-id", "implementation-id", "pkey"}))
        yield PlatformKey(name, load_jwk(anchor.get("pkey")), _octets(anchor.get("instance-id")),
                          _octets(anchor.get("implementation-id")))


def _octets(value: object) -> bytes | None:
    return None if value is None else bytes.fromhex(text(value, "an id"))


def load_jwk(value: object) -> ec.EllipticCurvePublicKey:
    """A public key on a curve of NIST's.

    Raises:
        NotProven: it is another, or a private one.
    """
    jwk = mapping(value, "the key", MEMBERS)
    require(jwk.get("kty") == "EC" and jwk.get("crv") in CURVES, "the key is no JWK of EC")
    curve = CURVES[jwk["crv"]]()
    size = (curve.key_size + 7) // 8
    point = b"".join(_coordinate(jwk.get(name), size) for name in "xy")
    return ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + point)


def _coordinate(value: object, size: int) -> bytes:
    encoded = text(value, "a coordinate of the key")
    data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    require(base64.urlsafe_b64encode(data).decode().rstrip("=") == encoded.rstrip("="), "a coordinate is no base64url")
    require(len(data) == size, f"a coordinate of the key has {len(data)} bytes, not {size}")
    return data
