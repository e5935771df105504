"""What a launch must know of its encrypted model beforehand. What of it fails is refused before anything is changed.

The entrypoint checks the same again, and every byte; here a person learns it while nothing has been started yet.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import Refused, shell_word
from vmtool.extras import adding
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.spec.encryption import Encryption

# Bytes of a key file, as `vmtool.serving.cryptotensors.jwk` has it, and of a manifest.
MOST_KEY, MOST_MANIFEST = 16 << 10, 16 << 20
_OPENS = "name the master key that the model was encrypted with; to see what is there: ls -l {}"


@dataclass(frozen=True)
class EncryptedModelFacts:
    """An encrypted model that a spec names.

    Args:
        signer: the owner's public key in base64, a colon, and its name: as the entrypoint takes it; empty when the
            file has none.
        problems: the key of `spec.model`, what is wrong there, and what helps.
        ca: of the key's broker: its CAs as PEM, in base64; empty without a broker.
    """

    signer: str
    problems: tuple[tuple[str, str, str], ...] = ()
    ca: str = ""

    @property
    def kid(self) -> str:
        """The name of the owner's key."""
        return self.signer.partition(":")[2]


def read_encrypted(reader: Reader, directory: Path, encryption: Encryption) -> EncryptedModelFacts:
    """Look at the model's manifest, its signer and its key; the key's bytes are kept nowhere."""
    try:
        from vmtool.models.encryption.keys import read_signer
    except ModuleNotFoundError as error:
        why = f"an encrypted model needs the Python package {error.name}"
        return EncryptedModelFacts("", (("encryption", why, adding("models")),))
    try:
        signer = read_signer(encryption.signer, private=False)
    except (Refused, OSError) as error:
        return EncryptedModelFacts("", (("encryption.signer", str(error), getattr(error, "hint", "")),))
    word = f"{base64.b64encode(signer.public).decode()}:{signer.kid}"
    key, pem = encryption.key, b""
    found = [*_manifest(reader, directory, encryption), *(_key(reader, key.file) if key.file else ())]
    if key.broker and key.broker.ca:
        piece = reader.piece(str(key.broker.ca), 0, MOST_KEY + 1)
        pem = piece.data if piece else b""
        found += _ca(key.broker.ca, pem)
    return EncryptedModelFacts(word, tuple(found), base64.b64encode(pem).decode())


def _manifest(reader: Reader, directory: Path, encryption: Encryption) -> Iterator[tuple[str, str, str]]:
    from vmtool.models.encryption.keys import read_signer
    from vmtool.serving.cryptotensors.errors import OtherModel, Untrusted
    from vmtool.serving.cryptotensors.manifest import NAME, read_manifest

    piece = reader.piece(str(directory / NAME), 0, MOST_MANIFEST + 1)
    if piece is None or not piece.data:
        yield ("path", f"{directory} has no {NAME}, so it is not an encrypted model",
               f"vmtool model encrypt {shell_word(directory)} -o ENCRYPTED --key KEY --sign KEY")
        return
    try:
        manifest = read_manifest(piece.data, read_signer(encryption.signer, private=False), encryption.digest)
    except OtherModel as error:
        yield ("encryption.manifest", f"{directory}: {error}",
               f"sha256sum {shell_word(directory / NAME)} says which model lies there; a rewrapped one has another")
        return
    except Untrusted as error:
        yield ("encryption.signer", f"{directory}: {error}", "get the model again, or name the signer who signed it")
        return
    for entry in manifest.files:
        each = reader.piece(str(directory / entry.name), 0, 0)
        if each is None or each.size != entry.size:
            yield ("path", f"{directory / entry.name}: {'missing' if each is None else 'not of the size'} "
                           f"{'' if each is None else 'that was signed'}".rstrip(), "get the model again")


def _key(reader: Reader, path: Path) -> Iterator[tuple[str, str, str]]:
    place = "encryption.key.file"
    found = reader.run(("find", "-L", str(path), "-maxdepth", "0", "-printf", "%y %m"))
    kind, _, mode = (found.out if found else "").strip().partition(" ")
    if kind not in ("f", "p"):
        yield place, f"{path}: {'no such file' if not kind or kind in 'NL' else 'neither a file nor a pipe'}", (
            _OPENS.format(shell_word(path.parent)))
    elif int(mode, 8) & 0o077:
        yield place, f"{path}: its mode is {mode}, so others may read the key", f"chmod 600 {shell_word(path)}"
    elif kind == "f":
        yield from _master(reader, path, place)


def _ca(path: Path, pem: bytes) -> Iterator[tuple[str, str, str]]:
    from cryptography import x509

    try:
        if len(pem) > MOST_KEY or not x509.load_pem_x509_certificates(pem) or b"PRIVATE" in pem:
            raise ValueError
    except ValueError:
        yield ("encryption.key.broker.ca", f"{path}: not certificates in PEM form, of {MOST_KEY >> 10} KiB at most",
               f"ls -l {shell_word(path)}")


def _master(reader: Reader, path: Path, place: str) -> Iterator[tuple[str, str, str]]:
    from vmtool.serving.cryptotensors.errors import Untrusted
    from vmtool.serving.cryptotensors.jwk import MasterKey, read_key

    piece = reader.piece(str(path), 0, MOST_KEY + 1)
    try:
        if not isinstance(read_key(piece.data if piece else b""), MasterKey):
            raise Untrusted("a signing key, and a master key is needed")
    except Untrusted as error:
        yield place, f"{path}: {error}", _OPENS.format(shell_word(path.parent))
