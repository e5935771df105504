"""Key files: private to one user, read once, never printed."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmtool.errors import Refused, shell_word
from vmtool.foreign import read_regular
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, MAX_KEY_FILE, MasterKey, Signer, read_key
from vmtool.serving.encrypted.process import keep_memory

_OWNERS = "name the signer's public key; the model's owner has it: vmtool key export-public SIGNER > signer.pub.jwk"


def new_master(algorithm: str) -> MasterKey:
    """A master key with a random name, since a name made from the key would say something of it."""
    keep_memory()
    return MasterKey(f"model-{os.urandom(8).hex()}", algorithm, os.urandom(ALGORITHMS[algorithm]))


def new_signer(private: bytes = b"") -> Signer:
    """A signing key, or that of 32 bytes that are there; named by the beginning of its public key's SHA-256."""
    keep_memory()
    private = private or Ed25519PrivateKey.generate().private_bytes_raw()
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return Signer(f"signer-{hashlib.sha256(public).hexdigest()[:16]}", public, private)


def new_key_hint(path: Path, *, sign: bool = False) -> str:
    """How a key that fits is made, where a new one helps: under this name, or one beside it that is free."""
    names = (path, *(path.with_name(f"{'signer' if sign else 'master'}{each}.jwk") for each in ("", *range(2, 100))))
    free = next((name for name in names if not os.path.lexists(name)), path)
    return f"vmtool key generate {'--sign ' if sign else ''}-o {shell_word(free)}"


def file_hint(path: Path, what: str) -> str:
    """Where a new key would be of no use."""
    return f"name {what}; to see what is there: ls -l {shell_word(path.parent)}"


def read_master(path: Path, *, hint: str = "") -> MasterKey:
    """The master key of a file.

    Args:
        hint: what helps when it is none; by default a new key would not.

    Raises:
        Refused: it is not one, or others may read it.
    """
    hint = hint or file_hint(path, "the master key that the model was encrypted with")
    key = read_key_file(path, hint)
    if not isinstance(key, MasterKey):
        raise Refused(f"{path}: a signing key, and a master key is needed", hint=hint)
    return key


def read_signer(path: Path, *, private: bool = True, hint: str = "") -> Signer:
    """The signer of a file; without `private` its public part is enough.

    Args:
        hint: what helps when it is none; by default a new key would not.

    Raises:
        Refused: it is not one, or others may read the private part.
    """
    hint = hint or (file_hint(path, "the signing key that the model was signed with") if private else _OWNERS)
    key = read_key_file(path, hint)
    if not isinstance(key, Signer) or (private and not key.private):
        what = "a signing key with its private part" if private else "the signer's key"
        raise Refused(f"{path}: not {what}", hint=hint)
    return key


def read_key_file(path: Path, hint: str = "") -> MasterKey | Signer:
    """Any key; one with a secret in it must be readable by its owner alone.

    Args:
        hint: what helps when it is none.

    Raises:
        Refused: it is not a key, or others may read it.
    """
    hint = hint or file_hint(path, "a file that vmtool key generate made")
    try:
        text = read_regular(path, MAX_KEY_FILE)
        mode = stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{path}: no such file", hint=hint) from None
    try:
        key = read_key(text)
    except Untrusted as error:
        raise Refused(f"{path}: {error}", hint=hint) from None
    if mode & 0o077 and (isinstance(key, MasterKey) or key.private):
        raise Refused(f"{path}: its mode is {mode:04o}, so others may read the key",
                      hint=f"chmod 600 {shell_word(path)}")
    return key
