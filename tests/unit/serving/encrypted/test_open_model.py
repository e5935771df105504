"""An encrypted model is opened as a whole or not at all: each way in which its directory can be another is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from tests.unit.models.encryption.make import Owner, copy_clear, plain_file, plain_model
from vmtool.models.workers import sign_manifest
from vmtool.serving.cryptotensors.errors import OtherModel, Untrusted
from vmtool.serving.cryptotensors.jwk import key_text
from vmtool.serving.encrypted.bundle import Bundle, unpack
from vmtool.serving.encrypted.open_model import open_model

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
MANIFEST = "vmtool-manifest.json"


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Owner:
    return Owner(tmp_path_factory.mktemp("owner"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_model(tmp_path_factory.mktemp("plain") / "model")


@pytest.fixture
def model(owner: Owner, plain: Path, tmp_path: Path) -> Path:
    return owner.model(plain, tmp_path / "encrypted")


def opened(owner: Owner, model: Path) -> Bundle:
    view = model.parent / f"view-{len(list(model.parent.glob('view-*')))}"
    view.mkdir()
    return open_model(model, view, owner.signer, owner.master)


def test_a_model_as_its_owner_made_it_is_opened(owner: Owner, model: Path, plain: Path) -> None:
    bundle = opened(owner, model)
    assert [(each.name, each.tensors) for each in bundle.files] == [(FIRST, 4), (SECOND, 1)]
    assert (len(bundle.keys), bundle.directory) == (5 * 32, model)
    assert os.listdir(bundle.view) == ["config.json"]
    assert (bundle.view / "config.json").read_bytes() == (plain / "config.json").read_bytes()


def test_another_model_of_the_same_owner_is_refused_where_one_is_named(owner: Owner, model: Path,
                                                                       tmp_path: Path) -> None:
    def named(digest: str) -> Bundle:
        view = tmp_path / digest
        view.mkdir()
        return open_model(model, view, owner.signer, owner.master, digest)

    assert named(hashlib.sha256((model / MANIFEST).read_bytes()).hexdigest()).files
    with pytest.raises(OtherModel, match="another model of the same owner"):
        named("0" * 64)


def test_a_model_on_a_disk_of_its_own_is_opened(owner: Owner, model: Path) -> None:
    """As in a guest: ext4 has a directory of its own at the top of each file system."""
    (model / "lost+found").mkdir(0o700)
    assert len(opened(owner, model).files) == 2


def test_what_the_workers_get_opens_this_model_and_is_not_the_master_key(owner: Owner, model: Path) -> None:
    bundle = opened(owner, model)
    packed = bundle.pack()
    assert unpack(packed) == bundle
    assert owner.master.secret not in packed
    with pytest.raises(Untrusted, match="cut off"):
        unpack(packed[:-1])


def test_a_configuration_that_is_changed_afterwards_changes_nothing(owner: Owner, model: Path) -> None:
    bundle = opened(owner, model)
    (model / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    assert "auto_map" not in (bundle.view / "config.json").read_text()


def flip(name: str, place: int) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        data = bytearray((model / name).read_bytes())
        data[place] ^= 0x41
        (model / name).write_bytes(data)
    return change


def swap(model: Path) -> None:
    (model / FIRST).rename(model / "x")
    (model / SECOND).rename(model / FIRST)
    (model / "x").rename(model / SECOND)


def replace_by(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        (model / name).rename(model.parent / f"real-{name}")
        make(model / name)
    return change


def strip(model: Path) -> None:
    """The downgrade: the same file without `__encryption__`."""
    data = (model / FIRST).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    del header["__metadata__"]["__encryption__"]
    text = json.dumps(header, separators=(",", ":")).encode()
    (model / FIRST).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:])


CHANGES: dict[str, Callable[[Path], object]] = {
    "a byte of the header": flip(FIRST, 900), "the header's length": flip(FIRST, 0),
    "a byte of the manifest": flip(MANIFEST, 300), "a byte of the configuration": flip("config.json", 3),
    "no manifest": lambda model: (model / MANIFEST).unlink(),
    "no file": lambda model: (model / SECOND).unlink(),
    "cut off": lambda model: os.truncate(model / SECOND, (model / SECOND).stat().st_size - 1),
    "extended": lambda model: os.truncate(model / SECOND, (model / SECOND).stat().st_size + 1),
    "files swapped": swap, "no __encryption__": strip,
    "a plain file in its place": lambda model: plain_file(model / SECOND),
    "a link": replace_by(SECOND, lambda path: path.symlink_to(path.parent.parent / f"real-{SECOND}")),
    "a pipe": replace_by(SECOND, os.mkfifo), "a directory": replace_by(SECOND, os.mkdir),
    "a link for the manifest": replace_by(
        MANIFEST, lambda path: path.symlink_to(path.parent.parent / f"real-{MANIFEST}")),
    "a pipe for the configuration": replace_by("config.json", os.mkfifo),
    "a link for the configuration": replace_by("config.json", lambda path: path.symlink_to("/etc/hostname")),
    "weights in clear beside it": lambda model: plain_file(model / "model-00003.safetensors"),
    "code beside it": lambda model: (model / "modeling.py").write_text("x"),
    "a file of the name of ext4's directory": lambda model: (model / "lost+found").write_text("x"),
    "a pipe beside it": lambda model: os.mkfifo(model / "more.json"),
    "a longer configuration": lambda model: (model / "config.json").write_bytes(
        (model / "config.json").read_bytes() + b" "),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_is_not_what_was_signed_is_refused(owner: Owner, model: Path,
                                                    change: Callable[[Path], object]) -> None:
    change(model)
    with pytest.raises(Untrusted):
        opened(owner, model)


def test_another_owners_key_or_signature_is_refused(owner: Owner, model: Path, tmp_path: Path) -> None:
    (tmp_path / "view").mkdir()
    (tmp_path / "other").mkdir()
    other = Owner(tmp_path / "other")
    with pytest.raises(Untrusted, match="the key does not open this file"):
        open_model(model, tmp_path / "view", owner.signer, other.master)
    with pytest.raises(Untrusted, match="not signed by signer-"):
        open_model(model, tmp_path / "view2", other.signer, owner.master)


def test_another_model_of_the_same_owner_is_refused_when_each_has_a_key_of_its_own(
        owner: Owner, plain: Path, tmp_path: Path) -> None:
    """As docs/encrypted-models.md says; under one key it would be opened."""
    (tmp_path / "other").mkdir()
    other = Owner(tmp_path / "other")
    other.signer = owner.signer
    other.sign.write_text(key_text(owner.signer))
    moved = other.model(plain, tmp_path / "encrypted")
    assert opened(other, moved).files
    with pytest.raises(Untrusted, match="the key does not open this file"):
        opened(owner, moved)


@pytest.mark.parametrize("name", ["weights.bin", "tokenizer.py", "vocab.pkl", "merges.safetensors", "x.gguf"])
def test_an_owner_cannot_sign_weights_or_code_in_clear(owner: Owner, plain: Path, tmp_path: Path, name: str) -> None:
    model = owner.model(plain, tmp_path / "model")
    source = plain_file(tmp_path / name)
    copy_clear(source, model / name)
    encrypted = os.listdir(plain)
    for each in encrypted:
        if each.endswith(".safetensors"):
            owner.encrypt(plain / each, model / each)
        else:
            copy_clear(plain / each, model / each)
    sign_manifest.run(sign_manifest.Order(model, tuple(sorted([*encrypted, name])), owner.sign), FakeHost())
    with pytest.raises(Untrusted, match="is not encrypted"):
        opened(owner, model)


def test_a_tensor_in_two_files_is_refused(owner: Owner, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        plain_file(plain / name, {"same": ("F32", [1], b"1234")})
    with pytest.raises(Untrusted, match="in another file too"):
        opened(owner, owner.model(plain, tmp_path / "model"))


def test_the_index_says_which_files_are_loaded(owner: Owner, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("a.safetensors", "consolidated.safetensors"):
        plain_file(plain / name, {"same": ("F32", [1], b"1234")})
    assert [each.name for each in opened(owner, owner.model(plain, tmp_path / "one")).files] == ["a.safetensors"]
    index = plain / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"same": "consolidated.safetensors"}}))
    assert [each.name for each in opened(owner, owner.model(plain, tmp_path / "two")).files] == [
        "consolidated.safetensors"]
    index.write_text(json.dumps({"weight_map": {"same": "../../etc/passwd"}}))
    with pytest.raises(Untrusted, match="which is not there"):
        opened(owner, owner.model(plain, tmp_path / "three"))
