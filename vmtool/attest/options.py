"""What the commands of `vmtool attest` take alike."""

from __future__ import annotations

import importlib.util
import re
from datetime import UTC, datetime

from vmtool.errors import ProgramMissing, Refused
from vmtool.extras import adding
from vmtool.serving.evidence.binding import NONCE

# Of the extra `attest` in setup.cfg.
PACKAGES = ("cryptography", "dcap_qvl", "lxml", "signxml")
# What asking a server needs besides, of the extra `connect`.
SERVER_PACKAGES = ("aiohttp", "httptools", "prometheus_client")
LEAST_NONCE, MOST_NONCE = 8, 64
ROOT = re.compile("[0-9a-f]{64}")


def require_packages(more: tuple[str, ...] = (), extra: str = "attest") -> None:
    """A verifier without its library would look like evidence that is refused.

    Args:
        more: further packages, of that extra.

    Raises:
        ProgramMissing: a library is not installed.
    """
    missing = [name for name in (*PACKAGES, *more) if importlib.util.find_spec(name) is None]
    if missing:
        raise ProgramMissing(f"verifying evidence needs the Python packages {', '.join(missing)}",
                             hint=adding(extra))


def parse_nonce(text: str | None) -> bytes | None:
    """The nonce that --nonce names.

    Raises:
        Refused: it is none.
    """
    if text is None:
        return None
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise Refused(f"--nonce: not hexadecimal: {error}") from None
    if not LEAST_NONCE <= len(nonce) <= MOST_NONCE:
        raise Refused(f"--nonce: {len(nonce)} bytes; {LEAST_NONCE} to {MOST_NONCE} are needed")
    return nonce


def parse_server_nonce(text: str | None) -> bytes | None:
    """The nonce that --nonce names, for a server.

    Raises:
        Refused: it is none, or has not the 32 bytes that a server takes.
    """
    nonce = parse_nonce(text)
    if nonce is not None and len(nonce) != NONCE:
        raise Refused(f"--nonce: {len(nonce)} bytes; a server takes {NONCE}", hint="leave it out: a new one is made")
    return nonce


def parse_digest(text: str | None) -> str | None:
    """The root that --digest names.

    Raises:
        Refused: it is none.
    """
    if text is not None and not ROOT.fullmatch(text.lower()):
        raise Refused("--digest: not 64 hexadecimal digits", hint="vmtool status NAME --proof -o FILE prints it")
    return text and text.lower()


def parse_time(text: str | None) -> datetime:
    """The time that --at names, or now.

    Raises:
        Refused: it is none.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"--at: {text!r} is no time", hint="such as --at 2026-01-31T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
