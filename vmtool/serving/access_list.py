"""Who may ask, as a text: what is handed over to the entrypoint, and to a front that runs.

Each line is an API key, or one of

    token NAME sha256:DIGEST [requests=N] [tokens=N] [streams=N] [added=TIME]
    manager sha256:DIGEST
    scraper sha256:DIGEST
    certificate BASE64            of the DER; the front's own first, then those that lead to its CA
    certificate-key BASE64
    own-key                       instead of those two: the front makes its key, and a certificate with it
    client-ca BASE64              whose certificates clients must have; one line for each

A token is known by its digest only. Blank lines and lines with # in front are left out. Small, since the entrypoint
imports it before vLLM's start.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MIN_KEY = 16
MOST_BYTES, MOST_TOKENS = 1 << 20, 1000
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# The names of keys, which no token may have.
OF_A_KEY = re.compile(r"key(-[0-9]+)?")
LIMIT = re.compile(r"[1-9][0-9]{0,8}")
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
OWN = (b"manager", b"scraper")
ENCODED = (b"certificate", b"certificate-key", b"client-ca")
OWN_KEY = "own-key"
MOST_CERTIFICATES = 20
LIMITS = ("requests", "tokens", "streams")


@dataclass(frozen=True)
class AccessToken:
    """One who may ask.

    Args:
        name: "key" of the first API key, "key-2" of the second.
        requests, tokens: in a minute; streams: answers at once. Zero means no limit but the front's own.
        added: when, in words for a person.
    """

    name: str
    digest: bytes
    requests: int = 0
    tokens: int = 0
    streams: int = 0
    added: str = ""

    def line(self) -> str:
        """Its line."""
        limits = [f"{name}={getattr(self, name)}" for name in LIMITS if getattr(self, name)]
        added = [f"added={self.added}"] if self.added else []
        return " ".join(["token", self.name, f"sha256:{self.digest.hex()}", *limits, *added])


@dataclass(frozen=True)
class Certificates:
    """What the front shows, and whose certificates it asks its clients for; all as DER.

    Args:
        own: the front makes chain and key by itself; they are empty here.
    """

    chain: tuple[bytes, ...]
    key: bytes
    clients: tuple[bytes, ...] = ()
    own: bool = False


@dataclass(frozen=True)
class AccessList:
    """Who may ask, and the digest of what whoever changes it must show; without one nobody may.

    Args:
        scraper: of what whoever reads the metrics must show.
        certificates: None when the front speaks plain HTTP.
    """

    tokens: tuple[AccessToken, ...]
    manager: bytes = b""
    certificates: Certificates | None = None
    scraper: bytes = b""


def digest_of(secret: bytes) -> bytes:
    """What is kept of a key or token: it is random and long, so that its plain digest is enough."""
    return hashlib.sha256(secret).digest()


def read_access(path: Path) -> AccessList:
    """The list in a file.

    Raises:
        ValueError: as `parse`. OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return parse(file.read(MOST_BYTES + 1), str(path))


def parse(data: bytes, where: str) -> AccessList:
    """The list.

    Raises:
        ValueError: a line is wrong, named by its number alone since it may be a secret; or there is no key.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"{where}: more than {MOST_BYTES >> 20} MiB")
    keys: list[AccessToken] = []
    tokens: list[AccessToken] = []
    own: dict[bytes, bytes] = {}
    encoded: dict[bytes, list[bytes]] = {name: [] for name in ENCODED}
    own_key = False
    for number, line in _lines(data):
        words = line.split()
        try:
            if words[0] == b"token":
                tokens.append(_token(line))
            elif words[0] in OWN and len(words) == 2 and words[0] not in own:
                own[words[0]] = _digest(words[1].decode("latin-1"))
            elif words[0] in encoded:
                encoded[words[0]].append(_decoded(words))
            elif words == [OWN_KEY.encode()]:
                own_key = True
            else:
                keys.append(_key(line, len(keys)))
        except ValueError as error:
            raise ValueError(f"{where}, line {number}: {error}") from None
    if not keys:
        raise ValueError(f"{where}: no API key in it")
    return AccessList(_distinct([*keys, *tokens], where), own.get(b"manager", b""),
                      _certificates(encoded, own_key, where), own.get(b"scraper", b""))


def parse_tokens(data: bytes, where: str) -> tuple[AccessToken, ...]:
    """The tokens of a file that has nothing else.

    Raises:
        ValueError: a line is wrong.
    """
    tokens = []
    for number, line in _lines(data):
        try:
            tokens.append(_token(line))
        except ValueError as error:
            raise ValueError(f"{where}, line {number}: {error}") from None
    return _distinct(tokens, where)


def _lines(data: bytes) -> Iterable[tuple[int, bytes]]:
    for number, line in enumerate(data.splitlines(), 1):
        if (text := line.strip()) and not text.startswith(b"#"):
            yield number, text


def _key(line: bytes, before: int) -> AccessToken:
    if len(line) < MIN_KEY or not line.isascii() or b" " in line or b"\t" in line:
        raise ValueError(f"a key must be one ASCII word of at least {MIN_KEY} characters")
    return AccessToken("key" if not before else f"key-{before + 1}", digest_of(line))


def _token(line: bytes) -> AccessToken:
    words = line.decode("utf-8", "replace").split()
    if len(words) < 3 or words[0] != "token":
        raise ValueError("a token's line is: token NAME sha256:DIGEST, and its limits")
    if not NAME.fullmatch(words[1]) or OF_A_KEY.fullmatch(words[1]):
        raise ValueError("a token's name has 1 to 63 lower-case letters, digits and inner hyphens, and is not 'key'")
    limits: dict[str, int] = {}
    added = ""
    for word in words[3:]:
        name, _, value = word.partition("=")
        if name == "added" and not added and value.isprintable() and len(value) <= 40:
            added = value
        elif name in LIMITS and name not in limits and LIMIT.fullmatch(value):
            limits[name] = int(value)
        else:
            raise ValueError(f"a limit is {', '.join(f'{each}=N' for each in LIMITS)}, each once, with N from 1")
    return AccessToken(words[1], _digest(words[2]), added=added, **limits)


def _decoded(words: list[bytes]) -> bytes:
    try:
        return base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
    except ValueError:
        raise ValueError(f"{words[0].decode()} needs one word in base64") from None


def _certificates(encoded: dict[bytes, list[bytes]], own_key: bool, where: str) -> Certificates | None:
    chain, keys, clients = (tuple(encoded[name]) for name in ENCODED)
    if not (chain or keys or clients or own_key):
        return None
    fits = not (chain or keys) if own_key else chain and len(keys) == 1
    if not fits or max(len(chain), len(clients)) > MOST_CERTIFICATES:
        raise ValueError(f"{where}: a certificate has one key, and at most {MOST_CERTIFICATES} that lead to its CA")
    return Certificates(chain, b"".join(keys), clients, own_key)


def _digest(text: str) -> bytes:
    found = DIGEST.fullmatch(text)
    if not found:
        raise ValueError("a digest is sha256: and 64 hexadecimal digits in lower case")
    return bytes.fromhex(found[1])


def _distinct(tokens: list[AccessToken], where: str) -> tuple[AccessToken, ...]:
    if len(tokens) > MOST_TOKENS:
        raise ValueError(f"{where}: more than {MOST_TOKENS} tokens")
    for what, values in (("name", [token.name for token in tokens]), ("digest", [token.digest for token in tokens])):
        if len(set(values)) < len(values):
            twice = next(token.name for at, token in enumerate(tokens) if values[at] in values[:at])
            raise ValueError(f"{where}: the {what} of {twice} is there twice")
    return tuple(tokens)
