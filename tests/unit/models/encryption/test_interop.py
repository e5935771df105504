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
from vmtool.serving.cryptotensors.jwk import ALGORITHMS, key_text
from vmtool.serving.cryptotensors.reader import opened


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
        names = [each.name for each in file.tensors(owner.master, lambda tensor: memoryview(buffers[tensor.name]))]
    assert sorted(names) == sorted(arrays)
    assert {name: bytes(each) for name, each in buffers.items()} == {
        name: each.tobytes() for name, each in arrays.items()}
