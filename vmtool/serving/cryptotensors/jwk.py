"""Keys as JSON Web Keys in cryptotensors' own spelling: lower-case kinds, padded base64 of the standard alphabet.

A file holds one key. Its bytes stay in the object that `read_key` gives; nothing here prints them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.encrypted.process import keep_memory

# Key bytes by algorithm.
ALGORITHMS = {"aes128gcm": 16, "aes256gcm": 32, "chacha20poly1305": 32}
MAX_KEY_FILE = 16 << 10
KID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")


@dataclass(frozen=True)
class MasterKey:
    """The key that wraps each tensor's own key.

    Args:
        secret: its bytes; not shown by repr.
    """

    kid: str
    algorithm: str
    secret: bytes = field(repr=False)


@dataclass(frozen=True)
class Signer:
    """Who signs headers and manifests.

    Args:
        public: 32 bytes (RFC 8032).
        private: 32 bytes; empty where only signatures are checked.
    """

    kid: str
    public: bytes
    private: bytes = field(default=b"", repr=False)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes.

        Raises:
            Untrusted: there is no private key.
        """
        if not self.private:
            raise Untrusted("the signing key is only a public one")
        return Ed25519PrivateKey.from_private_bytes(self.private).sign(message)

    def check(self, signature: bytes, message: bytes, what: str) -> None:
        """Check a signature of `what`.

        Raises:
            Untrusted: it is not this signer's.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise Untrusted(f"{what}: not signed by {self.kid or 'this signer'}, or changed since") from None


def read_key(text: bytes) -> MasterKey | Signer:
    """A key from the text of its file. From then on this process's memory is its own: it leaves no core.

    Raises:
        Untrusted: it is not such a key.
    """
    keep_memory()
    values = strict_json(text, "the key") if len(text) <= MAX_KEY_FILE else None
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise Untrusted("not a key: a JSON object of strings was expected (vmtool key generate)")
    kid = values.get("kid", "")
    if kid and not KID.fullmatch(kid):
        raise Untrusted("the key's kid has characters that do not belong there")
    if values.get("kty") == "oct":
        return _master(values, kid)
    if values.get("kty") == "okp":
        return _signer(values, kid)
    raise Untrusted("the key's kty is neither oct nor okp (lower case, as cryptotensors has it)")


def key_text(key: MasterKey | Signer, *, public: bool = False) -> str:
    """A key as the text of its file; `public` leaves a signer's private part out."""
    if isinstance(key, MasterKey):
        values = {"kty": "oct", "alg": key.algorithm, "kid": key.kid, "k": encode(key.secret)}
    else:
        values = {"kty": "okp", "alg": "ed25519", "kid": key.kid, "x": encode(key.public)}
        values |= {} if public else {"d": encode(key.private)}
    return json.dumps(values, indent=1) + "\n"


def encode(data: bytes) -> str:
    """Padded base64."""
    return base64.b64encode(data).decode()


def decode(text: object, length: int, what: str) -> bytes:
    """Base64 of exactly `length` bytes, in its one canonical spelling.

    Raises:
        Untrusted: it is not.
    """
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        data = None
    if data is None or len(data) != length or encode(data) != text:
        raise Untrusted(f"{what}: not {length} bytes in padded base64")
    return data


def strict_json(text: bytes | str, what: str) -> Any:
    """JSON without duplicate keys and without numbers that JSON does not have.

    Raises:
        Untrusted: it is not such a text.
    """
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise Untrusted(f"{what}: a key occurs twice")
        return found

    def refused(word: str) -> None:
        raise Untrusted(f"{what}: {word} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refused)
    except Untrusted:
        raise
    except (ValueError, RecursionError):
        raise Untrusted(f"{what}: not JSON") from None


def _master(values: dict[str, str], kid: str) -> MasterKey:
    algorithm = values.get("alg", "")
    if algorithm not in ALGORITHMS or set(values) - {"kty", "alg", "kid", "k"}:
        raise Untrusted(f"not a master key: it has kty, alg ({', '.join(ALGORITHMS)}), kid and k")
    return MasterKey(kid, algorithm, decode(values.get("k"), ALGORITHMS[algorithm], "the master key's k"))


def _signer(values: dict[str, str], kid: str) -> Signer:
    if values.get("alg") != "ed25519" or set(values) - {"kty", "alg", "kid", "x", "d"}:
        raise Untrusted("not a signing key: it has kty, alg (ed25519), kid, x and perhaps d")
    public = decode(values.get("x"), 32, "the signing key's x")
    private = decode(values["d"], 32, "the signing key's d") if "d" in values else b""
    if private and Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw() != public:
        raise Untrusted("the signing key's x is not the public part of its d")
    return Signer(kid, public, private)
