"""Every way in which an encrypted file can be another than its owner made is refused, and no plaintext is left."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.models.encryption.make import TENSORS, Owner, plain_file
from vmtool.serving.cryptotensors.decryption import decrypted
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.cryptotensors.header import parse, parse_plain
from vmtool.serving.cryptotensors.jwk import MasterKey, Signer, encode
from vmtool.serving.cryptotensors.reader import opened


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def sealed(owner: Owner, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = tmp_path_factory.mktemp("sealed")
    return owner.encrypt(plain_file(directory / "plain"), directory / "sealed").read_bytes()


def read(data: bytes, path: Path, master: MasterKey, signer: Signer) -> dict[str, bytes]:
    """Every tensor of the file."""
    path.write_bytes(data)
    with opened(path, signer) as file:
        buffers = {each.name: bytearray(each.size) for each in file.header.tensors}
        for _ in decrypted(file, master, lambda tensor: memoryview(buffers[tensor.name])):
            pass
    return {name: bytes(each) for name, each in buffers.items()}


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, what follows it)."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8:8 + length]), data[8 + length:]


def signed(data: bytes, change: Callable[[dict[str, Any]], object], signer: Signer) -> bytes:
    """The file with its header changed, and signed again by the very owner: the rules hold for owners too."""
    header, rest = header_of(data)
    change(header)
    header["__metadata__"].pop("__signature__", None)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    header["__metadata__"] = dict(sorted((header["__metadata__"] | {
        "__signature__": encode(signer.sign(text))}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def test_the_whole_file_comes_back(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    assert read(sealed, tmp_path / "f", owner.master, owner.signer) == {
        name: data for name, (_, _, data) in TENSORS.items()}


def test_no_tensor_lies_in_it_in_clear(sealed: bytes) -> None:
    assert bytes(range(256)) not in sealed and b"\x5a" * 32 not in sealed


def test_any_flipped_byte_is_refused(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    length = int.from_bytes(sealed[:8], "little")
    places = [*range(8), *range(8, 8 + length, 97), 8 + length, 8 + length + (2 << 20),
              len(sealed) - 5, len(sealed) - 1]
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 0x41
        with pytest.raises(Untrusted):
            read(bytes(changed), tmp_path / "f", owner.master, owner.signer)


@pytest.mark.parametrize("change", [
    lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:7], lambda data: b"",
    lambda data: data[:1000], lambda data: b"\xff" * 8 + data[8:], lambda data: bytes(8) + data[8:]],
    ids=["cut", "longer", "no length", "empty", "in the header", "huge header", "unfinished"])
def test_another_length_is_refused(owner: Owner, sealed: bytes, tmp_path: Path, change: Any) -> None:
    with pytest.raises(Untrusted):
        read(change(sealed), tmp_path / "f", owner.master, owner.signer)


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["__metadata__"].pop(name)


def inside(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], object]:
    def changed(header: dict[str, Any]) -> None:
        values = json.loads(header["__metadata__"][name])
        change(values)
        header["__metadata__"][name] = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return changed


@pytest.mark.parametrize("change", [
    drop("__encryption__"), drop("__crypto_keys__"), drop("__policy__"),
    inside("__encryption__", lambda values: values.pop("scale")),
    inside("__encryption__", lambda values: values["scale"].pop("tags")),
    inside("__encryption__", lambda values: values["scale"].update(tags="")),
    inside("__encryption__", lambda values: values["scale"].update(key_iv=None)),
    inside("__encryption__", lambda values: values["scale"].update(base_iv=encode(b"\xff" * 12))),
    inside("__encryption__", lambda values: values.update(other=values["scale"])),
    inside("__crypto_keys__", lambda values: values.update(version="1")),
    inside("__crypto_keys__", lambda values: values.pop("chunk_size")),
    inside("__crypto_keys__", lambda values: values.update(chunk_size=1 << 40)),
    inside("__crypto_keys__", lambda values: values.update(chunk_size=True)),
    inside("__crypto_keys__", lambda values: values["enc"].update(alg="none")),
    inside("__crypto_keys__", lambda values: values["enc"].update(alg="aes128gcm")),
    inside("__crypto_keys__", lambda values: values["enc"].update(alg=["aes256gcm"])),
    inside("__crypto_keys__", lambda values: values.update(enc=[])),
    inside("__crypto_keys__", lambda values: values["enc"].update(jku="file:///etc/passwd")),
    inside("__crypto_keys__", lambda values: values["sign"].update(jku="https://evil.example/")),
    inside("__policy__", lambda values: values.update(local="package model\nallow = false")),
    lambda header: header["scale"].update(data_offsets=[0, 4]),
    lambda header: header["scale"].update(shape=[2]),
    lambda header: header["scale"].update(dtype="F99"),
    lambda header: header["scale"].update(extra=1),
    lambda header: header.update(scale=[]),
], ids=itertools.count())
def test_what_breaks_a_rule_is_refused_though_its_owner_signed_it(owner: Owner, sealed: bytes, tmp_path: Path,
                                                                 change: Callable[[dict[str, Any]], object]) -> None:
    assert read(signed(sealed, lambda header: None, owner.signer), tmp_path / "f", owner.master, owner.signer)
    with pytest.raises(Untrusted):
        read(signed(sealed, change, owner.signer), tmp_path / "f", owner.master, owner.signer)


def test_a_key_that_occurs_twice_is_refused(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    twice = sealed.replace(b'"__policy__":', b'"__policy__":"","__policy__":', 1)
    with pytest.raises(Untrusted, match=r"twice|not a safetensors"):
        read(twice, tmp_path / "f", owner.master, owner.signer)


def test_another_owners_signature_or_key_is_refused(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    other = Owner(tmp_path)
    with pytest.raises(Untrusted, match="not signed by"):
        read(sealed, tmp_path / "f", owner.master, other.signer)
    with pytest.raises(Untrusted, match="does not open this file"):
        read(sealed, tmp_path / "f", other.master, owner.signer)
    with pytest.raises(Untrusted, match="encrypted with aes256gcm"):
        read(sealed, tmp_path / "f", replace(owner.master, algorithm="chacha20poly1305"), owner.signer)


def test_tensors_of_two_files_cannot_be_exchanged(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    second = owner.encrypt(plain_file(tmp_path / "plain"), tmp_path / "second").read_bytes()
    with pytest.raises(Untrusted, match="were changed, or are another file's"):
        read(sealed[:-4096] + second[-4096:], tmp_path / "f", owner.master, owner.signer)


def test_a_wrong_tag_leaves_no_plaintext(owner: Owner, sealed: bytes, tmp_path: Path) -> None:
    """In the last of three chunks: the two before it were opened already."""
    path, changed = tmp_path / "f", bytearray(sealed)
    length = int.from_bytes(sealed[:8], "little")
    changed[8 + length + (4 << 20) - 1] ^= 1                 # the end of the first tensor
    path.write_bytes(changed)
    with opened(path, owner.signer) as file:
        first = file.header.tensors[0]
        buffer = bytearray(first.size)
        with pytest.raises(Untrusted, match=first.name):
            list(decrypted(file, owner.master, lambda tensor: memoryview(buffer)))
    assert not any(buffer)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)],
                         ids=["pipe", "directory", "link"])
def test_what_is_no_regular_file_makes_nobody_wait(owner: Owner, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "f")
    with pytest.raises(Untrusted), opened(tmp_path / "f", owner.signer):
        pass


@given(st.binary(max_size=400))
def test_no_bytes_end_in_anything_but_a_refusal(text: bytes) -> None:
    for read_header in (parse, parse_plain):
        with pytest.raises(Untrusted):
            read_header(text, 8)
