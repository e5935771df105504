"""vmtool-manifest.json: every file of an encrypted model with its digests, signed by the model's owner.

An encrypted file is known by the SHA-256 of its header, which has the tag of every chunk in it: to compare that is a
matter of milliseconds, and no byte of the data can change without a wrong tag. `data_sha256` is for those who have no
key, and want to know whether a download is whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vmtool.serving.cryptotensors.errors import OtherModel, Untrusted
from vmtool.serving.cryptotensors.files import names_in
from vmtool.serving.cryptotensors.jwk import Signer, decode, encode, strict_json

NAME = "vmtool-manifest.json"
WEIGHTS = ".safetensors"
# What may stay in clear: no weights, no code.
CLEAR = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".md", ".spm", ".vocab", ".yaml", ".yml")
CLEAR_NAMES = ("LICENSE", "NOTICE", "USE_POLICY", "tokenizer", "merges", "vocab")
NEVER_CLEAR = (WEIGHTS, ".py", ".so", ".sh", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".gguf", ".h5", ".npy",
               ".npz", ".onnx", ".msgpack")
SCHEMA = "vmtool.encrypted-model/v1"
MAX_MANIFEST = 16 << 20
MAX_FILES = 10_000
FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+ -]{0,200}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SignedFile:
    """A file.

    Args:
        size: bytes.
        sha256: of a file in clear; empty for an encrypted one.
        header_sha256, data_sha256: of an encrypted one: its header's text, and what follows it; else empty.
    """

    name: str
    size: int
    sha256: str = ""
    header_sha256: str = ""
    data_sha256: str = ""

    @property
    def encrypted(self) -> bool:
        return bool(self.header_sha256)


@dataclass(frozen=True)
class ModelManifest:
    """The files in the order of their names.

    Args:
        digest: SHA-256 of the file that it was read from, in hexadecimal: which of its owner's models it is.
    """

    signer: str
    files: tuple[SignedFile, ...]
    digest: str = ""

    def text(self, signer: Signer) -> str:
        """As a file, signed."""
        return json.dumps(self._values() | {"signature": encode(signer.sign(self._signed()))}, indent=1) + "\n"

    def _values(self) -> dict[str, Any]:
        files = [{key: value for key, value in asdict(each).items() if value != ""} for each in self.files]
        return {"schema": SCHEMA, "signer": self.signer, "files": files}

    def _signed(self) -> bytes:
        return json.dumps(self._values(), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_manifest(text: bytes, signer: Signer, digest: str = "") -> ModelManifest:
    """A manifest that the signer signed.

    Args:
        digest: its SHA-256 in hexadecimal, where one model of the signer's is asked for; empty for any.

    Raises:
        Untrusted: it is not such a manifest, or of somebody else.
        OtherModel: it is of another model.
    """
    values = strict_json(text, NAME)
    manifest = replace(_manifest(values), digest=hashlib.sha256(text).hexdigest())
    signer.check(decode(values.get("signature"), 64, "its signature"), manifest._signed(), NAME)
    if digest and manifest.digest != digest:
        raise OtherModel(f"{NAME}: another model of the same owner: sha256:{manifest.digest}")
    return manifest


def foreign_names(directory: Path, names: Iterable[str]) -> list[str]:
    """What is in a model's directory and not of the model: all but its files, its manifest and what is ext4's own.

    Raises:
        OSError: it cannot be listed.
    """
    return sorted(set(names_in(directory)) - {NAME, *names})


def is_clear(name: str) -> bool:
    """Whether a file of this name may lie in clear beside the model."""
    return name.endswith(CLEAR) or (name.startswith(CLEAR_NAMES) and not name.endswith(NEVER_CLEAR))


def _manifest(values: Any) -> ModelManifest:
    if not isinstance(values, dict) or set(values) != {"schema", "signer", "files", "signature"}:
        raise Untrusted(f"{NAME}: it has schema, signer, files and signature, and nothing else")
    files = values["files"]
    if values["schema"] != SCHEMA or not isinstance(values["signer"], str) or not isinstance(files, list):
        raise Untrusted(f"{NAME}: not of the schema {SCHEMA}")
    if not 0 < len(files) <= MAX_FILES:
        raise Untrusted(f"{NAME}: it names no files, or too many")
    entries = tuple(_entry(each) for each in files)
    names = [each.name for each in entries]
    if names != sorted(set(names)):
        raise Untrusted(f"{NAME}: its files are not in order, or one occurs twice")
    return ModelManifest(values["signer"], entries)


def _entry(values: Any) -> SignedFile:
    kinds = ({"name", "size", "sha256"}, {"name", "size", "header_sha256", "data_sha256"})
    if not isinstance(values, dict) or set(values) not in kinds:
        raise Untrusted(f"{NAME}: a file has name, size and its digests, and nothing else")
    name, size = values["name"], values["size"]
    if not isinstance(name, str) or not FILE.fullmatch(name) or type(size) is not int or not 0 <= size < 1 << 50:
        raise Untrusted(f"{NAME}: a name or size of a file that is not one")
    digests = {key: value for key, value in values.items() if key.endswith("sha256")}
    if not all(isinstance(value, str) and _DIGEST.fullmatch(value) for value in digests.values()):
        raise Untrusted(f"{NAME}: {name}: a digest that is not one")
    return SignedFile(name, size, **digests)
