"""What cryptotensors itself writes is read here, and what is written here is read by it, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cryptotensors
import numpy as np
import pytest
from cryptotensors.numpy import load_file, save_file

from tests.unit.models.encryption.make import TENSORS, Owner, plain_file
from vmtool.errors import Refused
from vmtool.serving.cryptotensors.decryption import decrypted
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, key_text
from vmtool.serving.cryptotensors.reader import opened
from vmtool.serving.encrypted.open_model import open_model


def keys(owner: Owner) -> dict[str, Any]:
    return {"enc_key": json.loads(owner.key.read_text()), "sign_key": json.loads(owner.sign.read_text())}


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_the_library_reads_what_vmtool_writes(tmp_path: Path, algorithm: str) -> None:
    owner = Owner(tmp_path, algorithm)
    tensors = {name: each for name, each in TENSORS.items() if each[0] != "BF16"}  # numpy has no such type
    plain = plain_file(tmp_path / "plain.safetensors", tensors)
    sealed = owner.encrypt(plain, tmp_path / "sealed.safetensors")
    public = json.loads(key_text(owner.signer, public=True))
    wanted = load_file(str(plain))
    library: Any = cryptotensors
    with library.safe_open(str(sealed), "numpy", config=keys(owner) | {"sign_key": public}) as file:
        assert sorted(file.keys()) == sorted(wanted)
        for name, each in wanted.items():
            assert np.array_equal(file.get_tensor(name), each)
        assert file.metadata()["title"] == 'Caf\u00e9 "x"'


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("chunk", [None, 1000])
def test_vmtool_reads_what_the_library_writes(tmp_path: Path, algorithm: str, chunk: int | None) -> None:
    owner, path = Owner(tmp_path, algorithm), tmp_path / "library.safetensors"
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "big": np.arange(2_500_001, dtype=np.uint8), "scalar": np.array(3.0, np.float32),
        "none": np.zeros((0, 4), np.float32), "caf\u00e9": np.arange(6, dtype=np.int64).reshape(2, 3)}
    more = {"chunk_size": chunk} if chunk else {}
    save_file(arrays, str(path), metadata={"format": "pt"}, config=keys(owner) | more)
    with opened(path, owner.signer) as file:
        buffers = {each.name: bytearray(each.size) for each in file.header.tensors}
        names = [each.name for each in decrypted(file, owner.master, lambda tensor: memoryview(buffers[tensor.name]))]
    assert sorted(names) == sorted(arrays)
    assert {name: bytes(each) for name, each in buffers.items()} == {
        name: each.tobytes() for name, each in arrays.items()}


@pytest.mark.parametrize("chunk", [None, 1000])
def test_a_model_that_the_library_encrypted_is_taken_over_and_served(tmp_path: Path, chunk: int | None) -> None:
    owner, library = Owner(tmp_path), tmp_path / "library"
    library.mkdir()
    more = {"chunk_size": chunk} if chunk else {}
    arrays = {"a": np.arange(5_000_001, dtype=np.uint8)}
    save_file(arrays, str(library / "model.safetensors"), config=keys(owner) | more)
    (library / "config.json").write_text("{}")
    model = owner.model(library, tmp_path / "model")
    assert (model / "model.safetensors").read_bytes() == (library / "model.safetensors").read_bytes()
    (tmp_path / "view").mkdir()
    [file] = open_model(model, tmp_path / "view", owner.signer, owner.master).files
    assert (file.name, file.tensors) == ("model.safetensors", 1)


def test_what_others_encrypted_or_signed_is_not_taken_over(tmp_path: Path) -> None:
    owner, path = Owner(tmp_path), tmp_path / "library.safetensors"
    for part in ("enc_key", "sign_key"):
        (tmp_path / part).mkdir()
        other = keys(Owner(tmp_path / part))
        save_file({"a": np.arange(9, dtype=np.uint8)}, str(path), config=keys(owner) | {part: other[part]})
        with pytest.raises(Refused, match="does not open this file" if part == "enc_key" else "not signed by"):
            owner.encrypt(path, tmp_path / "out.safetensors")
    with pytest.raises(Untrusted), opened(path, owner.signer):
        pass
