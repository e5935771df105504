"""Tensors come whole, in buffers that are used again only when nobody holds them; a wrong byte leaves no plaintext."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.unit.models.encryption.make import TENSORS, Owner, plain_model
from vmtool.serving.cryptotensors import files, reader
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.encrypted import tensors
from vmtool.serving.encrypted.bundle import Bundle
from vmtool.serving.encrypted.open_model import open_model
from vmtool.serving.encrypted.tensors import Buffers, load_tensors

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
# What of PyTorch is used, by numpy: the host has no PyTorch, the images have.
TORCH = SimpleNamespace(bfloat16=np.dtype("uint16"), uint8=np.dtype("uint8"), float32=np.dtype("float32"),
                        frombuffer=np.frombuffer, empty=np.empty)


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", TORCH)


@pytest.fixture(params=["aes256gcm", "aes128gcm", "chacha20poly1305"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bundle, Path]:
    owner = Owner(tmp_path, request.param)
    directory = owner.model(plain_model(tmp_path / "plain"), tmp_path / "model")
    (tmp_path / "view").mkdir()
    return open_model(directory, tmp_path / "view", owner.signer, owner.master), directory


def wanted() -> dict[str, tuple[tuple[int, ...], bytes]]:
    return {name: (tuple(shape), data) for name, (_, shape, data) in TENSORS.items()} | {"head": ((2,), b"12345678")}


def test_a_loader_that_copies_gets_every_tensor_out_of_three_buffers(model: tuple[Bundle, Path],
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Buffers] = []

    def buffers() -> Buffers:
        made.append(Buffers())
        return made[-1]

    monkeypatch.setattr(tensors, "Buffers", buffers)
    found, largest = {}, 0
    for name, tensor in load_tensors(model[0]):
        found[name] = (tensor.shape, tensor.tobytes())
        largest = max(largest, sum(len(each) for each in made[0].all))
    assert found == wanted()
    assert largest <= 3 * max(len(data) for _, data in wanted().values())
    assert not any(model[0].keys), "the keys are overwritten"


def test_a_loader_that_keeps_its_tensors_keeps_what_is_in_them(model: tuple[Bundle, Path]) -> None:
    kept = dict(load_tensors(model[0]))
    assert {name: (each.shape, each.tobytes()) for name, each in kept.items()} == wanted()


def test_files_can_be_left_out(model: tuple[Bundle, Path]) -> None:
    assert [name for name, _ in load_tensors(model[0], lambda name: name == SECOND)] == ["head"]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte of the last tensor's": lambda directory: flip(directory / FIRST, -7),
    "a byte of the first tensor's last chunk": lambda directory: flip(directory / FIRST, -(2 << 20) - 20),
    "cut off": lambda directory: os.truncate(directory / FIRST, (directory / FIRST).stat().st_size - 1),
    "another file": lambda directory: (directory / SECOND).rename(directory / FIRST),
    "gone": lambda directory: (directory / SECOND).unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_file_that_was_changed_after_it_was_checked_is_refused(model: tuple[Bundle, Path],
                                                                 change: Callable[[Path], object]) -> None:
    change(model[1])
    with pytest.raises(Untrusted):
        list(load_tensors(model[0]))


def test_a_file_that_changes_while_it_is_read_is_refused_and_leaves_no_plaintext(
        model: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is changed after its first chunk was decrypted: that chunk is plaintext in the buffer by then."""
    buffers: list[bytearray] = []
    monkeypatch.setattr(reader, "MOST_THREADS", 1)
    real_take, real_read = Buffers.take, files.read_exactly

    def take(self: Buffers, size: int) -> bytearray:
        buffers.append(real_take(self, size))
        return buffers[-1]

    def read_exactly(descriptor: int, buffer: memoryview, offset: int) -> None:
        real_read(descriptor, buffer, offset)
        if buffers and offset > 1 << 20:
            assert any(buffers[0]), "the first chunk is there"
            buffer[0] ^= 1

    monkeypatch.setattr(Buffers, "take", take)
    monkeypatch.setattr(reader, "read_exactly", read_exactly)
    with pytest.raises(Untrusted, match="bytes were changed"):
        list(load_tensors(model[0]))
    assert not any(buffers[0])


def test_an_error_of_the_disk_leaves_no_plaintext_either(model: tuple[Bundle, Path],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.read_exactly
    with reader.opened(model[1] / FIRST, None, model[0].files[0].header) as file:
        tensor = file.header.tensors[0]
        buffer = bytearray(tensor.size)

        def fails(descriptor: int, piece: memoryview, offset: int) -> None:
            if offset > file.start + (2 << 20) - 1:
                raise OSError(5, "Input/output error")
            real(descriptor, piece, offset)

        monkeypatch.setattr(reader, "read_exactly", fails)
        with pytest.raises(OSError, match="Input/output"):
            file.read_into(tensor, model[0].of_file(0)[0], memoryview(buffer), file.scratch())
    assert not any(buffer)


def test_a_loader_that_stops_leaves_nothing_of_the_tensor_that_was_to_come(
        model: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    overwritten: list[int] = []
    real = files.wipe

    def wipe(buffer: memoryview | bytearray) -> None:
        if any(buffer):
            overwritten.append(len(buffer))
        real(buffer)

    monkeypatch.setattr(tensors, "wipe", wipe)
    found = load_tensors(model[0])
    next(found)
    found.close()  # type: ignore[attr-defined]
    sizes = [len(data) for _, _, data in TENSORS.values()]
    assert sum(size in sizes for size in overwritten) >= 2, "the one that was given, and the next"


def test_a_wrong_key_leaves_no_plaintext(model: tuple[Bundle, Path]) -> None:
    wrong = replace(model[0], keys=bytearray(os.urandom(len(model[0].keys))))
    with pytest.raises(Untrusted, match="bytes were changed"):
        list(load_tensors(wrong))


def test_a_type_that_pytorch_lacks_is_named(model: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    lacks: Any = SimpleNamespace(**{name: each for name, each in vars(TORCH).items() if name != "bfloat16"})
    monkeypatch.setitem(sys.modules, "torch", lacks)
    with pytest.raises(Untrusted, match="has no type BF16"):
        list(load_tensors(model[0]))


def test_every_header_is_checked_before_the_first_byte_is_decrypted(model: tuple[Bundle, Path],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    """The second file is another one: nothing of the first is read either."""
    last = model[0].files[-1]
    wrong = replace(model[0], files=(*model[0].files[:-1], replace(last, header=hashlib.sha256(b"").hexdigest())))
    monkeypatch.setattr(reader.EncryptedFile, "read_into", lambda *words: pytest.fail("a byte was decrypted"))
    with pytest.raises(Untrusted, match="not the file that was signed"):
        list(load_tensors(wrong))
