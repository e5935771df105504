"""Plain models as safetensors has them, and encrypted ones, made by vmtool's own workers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fakes.host import FakeHost
from vmtool.models.encryption.keys import new_master, new_signer
from vmtool.models.workers import copy_files, encrypt_file, sign_manifest
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer, key_text

# More than two chunks, one byte more than a chunk, a scalar, and nothing.
TENSORS: Mapping[str, tuple[str, list[int], bytes]] = {
    "layers.0.weight": ("BF16", [2, 1 << 20], bytes(range(256)) * (1 << 14)),
    "layers.1.weight": ("U8", [(2 << 20) + 1], b"\x5a" * ((2 << 20) + 1)),
    "scale": ("F32", [], b"\0\0\x80?"),
    "unused": ("F32", [0, 4], b""),
}


def plain_file(path: Path, tensors: Mapping[str, tuple[str, list[int], bytes]] = TENSORS,
               metadata: Mapping[str, str] | None = None) -> Path:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {"format": "pt", "title": "Caf\u00e9 \"x\""})}
    place = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + len(data)]}
        place += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))
    return path


class Owner:
    """Who owns a model: key files in a directory."""

    def __init__(self, directory: Path, algorithm: str = "aes256gcm", private: bytes = b"") -> None:
        self.master: MasterKey = new_master(algorithm)
        self.signer: Signer = new_signer(private)
        self.key, self.sign = directory / "master.jwk", directory / "signer.jwk"
        for path, key in ((self.key, self.master), (self.sign, self.signer)):
            path.touch(mode=0o600)
            path.write_text(key_text(key))

    def encrypt(self, source: Path, target: Path) -> Path:
        """One file."""
        encrypt_file.run(encrypt_file.Order(source, target, self.key, self.sign), FakeHost())
        return target

    def model(self, source: Path, target: Path) -> Path:
        """A whole directory."""
        target.mkdir()
        for name in os.listdir(source):
            if name.endswith(".safetensors"):
                self.encrypt(source / name, target / name)
            else:
                copy_clear(source / name, target / name)
        sign_manifest.run(sign_manifest.Order(target, tuple(sorted(os.listdir(source))), self.sign), FakeHost())
        return target


def copy_clear(source: Path, target: Path) -> None:
    """A file that stays in clear."""
    copy_files.run(copy_files.Order((source,), (target,)), FakeHost())


def plain_model(directory: Path) -> Path:
    """A model of two files of weights."""
    directory.mkdir()
    plain_file(directory / "model-00001-of-00002.safetensors")
    plain_file(directory / "model-00002-of-00002.safetensors", {"head": ("F32", [2], b"12345678")})
    (directory / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    return directory
