"""The CCA attestation token (draft-ffm-rats-cca-token) as data: what the platform says, and what the realm says."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from vmtool.attest.cbor import decode
from vmtool.attest.cose import PublicKey, Sign1, load_key, parse_sign1
from vmtool.attest.cursor import require
from vmtool.frozen import dataclass

TOKEN = 399
PLATFORM, REALM = 44234, 44241
HASHES = {"sha-256": hashlib.sha256, "sha-384": hashlib.sha384, "sha-512": hashlib.sha512}
CHALLENGE, PROFILE = 10, 265
PLATFORM_PROFILES = ("http://arm.com/CCA-SSD/1.0.0", "tag:arm.com,2023:cca_platform#1.0.0")
REALM_PROFILES = (None, "tag:arm.com,2023:realm#1.0.0")
# Claim -> its type; of those that must be there the first ones.
REALM_CLAIMS: dict[int, type] = {CHALLENGE: bytes, 44235: bytes, 44236: str, 44237: bytes, 44238: bytes, 44239: list,
                                 44240: str}
PLATFORM_CLAIMS: dict[int, type] = {PROFILE: str, CHALLENGE: bytes, 2396: bytes, 256: bytes, 2401: bytes, 2395: int,
                                    2399: list}
MORE_CLAIMS: dict[int, type] = {PROFILE: str, 2400: str, 2402: str}
MEASUREMENTS = 4
SIZES = {algorithm: make().digest_size for algorithm, make in HASHES.items()}


@dataclass(frozen=True)
class Platform:
    """The platform's part.

    Args:
        lifecycle: security state; 0x3000 to 0x30ff is secured.
        software: the firmware's components, each with a measurement (2) and its signer (5).
    """

    message: Sign1
    profile: str
    challenge: bytes
    implementation: bytes
    instance: bytes
    config: bytes
    lifecycle: int
    software: tuple[Mapping[int, Any], ...]


@dataclass(frozen=True)
class Realm:
    """The realm's part: the guest.

    Args:
        personalization: a value that the host gave it; rim is the initial measurement, rems are what was added.
        key: that signs it; `key_octets` as in the token, which the platform has a hash of.
    """

    message: Sign1
    profile: str | None
    challenge: bytes
    personalization: bytes
    key_octets: bytes
    key: PublicKey
    key_hash: str
    rim: bytes
    rems: tuple[bytes, ...]

    def hashed_key(self) -> bytes:
        """What the platform's challenge must be."""
        return HASHES[self.key_hash](self.key_octets).digest()


@dataclass(frozen=True)
class Token:
    """Both; `platform` is None where a virtCCA token has none."""

    platform: Platform | None
    realm: Realm


def parse_token(data: bytes) -> Token:
    """Read a token.

    Raises:
        NotProven: it is none, a claim is missing or odd, or a part has unknown members.
        Exception: its key is none.
    """
    parts = decode(data, (TOKEN,))
    require(isinstance(parts, dict) and REALM in parts and parts.keys() <= {PLATFORM, REALM}
            and all(isinstance(part, bytes) for part in parts.values()), "no token with a realm's part")
    platform = parts.get(PLATFORM)
    return Token(None if platform is None else parse_platform(platform), parse_realm(parts[REALM]))


def parse_platform(data: bytes) -> Platform:
    """Read the platform's part."""
    message = parse_sign1(data)
    claims = _claims(message, PLATFORM_CLAIMS, "platform")
    require(len(claims[CHALLENGE]) in SIZES.values(), "the platform's challenge is no hash")
    software = claims[2399]
    require(bool(software) and all(isinstance(part, dict) and all(
        isinstance(part.get(number), bytes) and len(part[number]) in SIZES.values() for number in (2, 5))
        for part in software), "a component of the platform's software has no measurement or signer")
    return Platform(message, claims[PROFILE], claims[CHALLENGE], claims[2396], claims[256], claims[2401], claims[2395],
                    tuple(software))


def parse_realm(data: bytes) -> Realm:
    """Read the realm's part."""
    message = parse_sign1(data)
    claims = _claims(message, REALM_CLAIMS, "realm")
    for number in (44236, 44240):
        require(claims[number] in HASHES, f"the hash {claims[number]!r} of the realm is unknown")
    rim, rems = claims[44238], claims[44239]
    require(len(rems) == MEASUREMENTS and all(isinstance(rem, bytes) and len(rem) == len(rim) for rem in rems)
            and len(rim) in SIZES.values(), "the realm's measurements are odd")
    require(len(claims[CHALLENGE]) == len(claims[44235]) == 64, "a field of the realm has no 64 bytes")
    return Realm(message, claims.get(PROFILE), claims[CHALLENGE], claims[44235], claims[44237], load_key(claims[44237]),
                 claims[44240], rim, tuple(rems))


def _claims(message: Sign1, needed: Mapping[int, type], part: str) -> dict[int, Any]:
    """The claims of a message, with the types that they must have."""
    claims: dict[int, Any] = decode(message.payload)
    require(isinstance(claims, dict), f"the claims of the {part} are no map")
    types = {**MORE_CLAIMS, **needed}
    missing = sorted(needed.keys() - claims.keys())
    odd = [number for number, value in claims.items() if number in types and type(value) is not types[number]]
    unknown = [number for number in claims if number not in types]
    require(not missing and not odd and not unknown,
            f"claims of the {part}: missing {missing}, of the wrong type {odd}, unknown {unknown}")
    return claims
