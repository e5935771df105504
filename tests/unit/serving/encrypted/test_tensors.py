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
from vmtool.serving.cryptotensors import decryption, files
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


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bytearray]:
    """The buffers of tensors, as one thread fills them one after the other."""
    buffers: list[bytearray] = []
    real = Buffers.take

    def take(self: Buffers, size: int) -> bytearray:
        buffers.append(real(self, size))
        return buffers[-1]

    monkeypatch.setattr(decryption, "MOST_THREADS", 1)
    monkeypatch.setattr(Buffers, "take", take)
    return buffers


def spoil(buffer: memoryview) -> None:
    buffer[0] ^= 1


def fail(buffer: memoryview) -> None:
    raise OSError(5, "Input/output error")


@pytest.mark.parametrize(("happens", "error", "why"), [
    (spoil, Untrusted, "layers.0.weight.*bytes were changed"), (fail, OSError, "Input/output")],
    ids=["a file that changes", "a disk that fails"])
def test_what_happens_while_it_is_read_leaves_no_plaintext(
        model: tuple[Bundle, Path], taken: list[bytearray], monkeypatch: pytest.MonkeyPatch,
        happens: Callable[[memoryview], None], error: type[Exception], why: str) -> None:
    """After the first chunk was decrypted: that chunk is plaintext in the buffer by then."""
    real = files.read_exactly

    def read_exactly(descriptor: int, buffer: memoryview, offset: int) -> None:
        real(descriptor, buffer, offset)
        if taken and offset > 1 << 20:
            assert any(taken[0]), "the first chunk is there"
            happens(buffer)

    monkeypatch.setattr(decryption, "read_exactly", read_exactly)
    with pytest.raises(error, match=why):
        list(load_tensors(model[0]))
    assert len(taken) > 1, "others were to come"
    assert not any(any(each) for each in taken)


def test_its_threads_run_where_the_engine_may_and_not_where_vllm_binds_a_worker(
        model: tuple[Bundle, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM binds a worker's first thread to one processor, and threads have this from who starts them."""
    bound: list[set[int]] = []
    affinity = {0: {3}, os.getppid(): {2, 3}}
    monkeypatch.setattr(os, "sched_getaffinity", affinity.__getitem__)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, processors: bound.append(processors))
    assert {name: each.tobytes() for name, each in load_tensors(model[0])} == {
        name: data for name, (_, data) in wanted().items()}
    assert bound and all(each == {2, 3} for each in bound)


def test_a_loader_that_stops_leaves_nothing_of_the_tensors_that_were_to_come(
        model: tuple[Bundle, Path], taken: list[bytearray], monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_tensors(model[0])
    next(found)
    given = bytes(taken[0])
    taken[0] = bytearray()  # else the test holds it
    overwritten: list[bytes] = []

    def wipe(buffer: memoryview | bytearray) -> None:
        overwritten.append(bytes(buffer))
        files.wipe(buffer)

    monkeypatch.setattr(tensors, "wipe", wipe)
    found.close()  # type: ignore[attr-defined]
    assert len(taken) > 1 and not any(any(each) for each in taken)
    assert given in overwritten


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
    monkeypatch.setattr(decryption.Decryption, "begin", lambda *words: pytest.fail("a byte was decrypted"))
    with pytest.raises(Untrusted, match="not the file that was signed"):
        list(load_tensors(wrong))
