"""Another key for a model: only headers change, and at any point it opens with the old key or the new one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes.host import FakeHost
from tests.fakes.recorded import Recorded
from tests.unit.models.encryption.make import Owner, copy_clear, plain_model
from vmtool.cli.main import vmtool
from vmtool.engine.worker import do_order
from vmtool.errors import Refused, VmtoolError
from vmtool.host import clone
from vmtool.models.encryption import commands
from vmtool.models.encryption.facts import read_encryption
from vmtool.models.encryption.inspect import inspect_model, open_manifest
from vmtool.models.encryption.keys import new_master
from vmtool.models.rewrap.check import check_rewrap
from vmtool.models.rewrap.facts import new_directory, read_rewrap
from vmtool.models.rewrap.plan_rewrap import plan_rewrap
from vmtool.paths import State
from vmtool.plan import Plan, Remove, RunWorker
from vmtool.serving.cryptotensors.jwk import MasterKey, key_text

WEIGHTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


class Rewrap:
    """A model, its owner, and another key."""

    def __init__(self, directory: Path) -> None:
        self.owner, self.state = Owner(directory), State(directory / "state")
        self.model = self.owner.model(plain_model(directory / "plain"), directory / "model")
        self.new, self.new_key = new_master("aes256gcm"), directory / "new.jwk"
        self.new_key.touch(mode=0o600)
        self.new_key.write_text(key_text(self.new))

    def plan(self) -> Plan:
        keys = self.owner.master, self.new
        facts = read_rewrap(Recorded({}), self.model, keys, self.owner.signer)
        return plan_rewrap(self.state, facts, self.model, (self.owner.key, self.new_key, self.owner.sign), keys)

    def points(self) -> Iterator[Callable[[], None]]:
        """Each action of what is left to do, to be done."""
        for step in self.plan().steps:
            for action in step.actions:
                yield partial(do, action)

    def opens(self, key: MasterKey) -> bool:
        """Whether every byte of the model opens, as its owner signed it."""
        manifest = open_manifest(self.model, self.owner.signer)
        return all(each.level == "ok" for each in inspect_model(self.model, manifest, self.owner.signer, data=True,
                                                                master=key))


def do(action: object) -> None:
    """In this process what a worker would do in its own."""
    if isinstance(action, RunWorker):
        do_order(action.name, json.dumps(action.order), FakeHost())
    else:
        action.do(FakeHost())  # type: ignore[attr-defined]


@pytest.fixture
def rewrap(tmp_path: Path) -> Rewrap:
    return Rewrap(tmp_path)


def all_of(rewrap: Rewrap) -> None:
    for act in rewrap.points():
        act()


def test_the_new_key_opens_it_and_only_headers_have_changed(rewrap: Rewrap) -> None:
    before = {path.name: path.read_bytes() for path in rewrap.model.iterdir()}
    all_of(rewrap)
    assert rewrap.opens(rewrap.new) and not rewrap.opens(rewrap.owner.master)
    for name, old in before.items():
        new = (rewrap.model / name).read_bytes()
        if name in WEIGHTS:
            start = 8 + int.from_bytes(old[:8], "little")
            assert len(new) == len(old) and new[start:] == old[start:] and new[8:start] != old[8:start]
        else:
            assert (new == old) == (name == "config.json")
    assert not new_directory(rewrap.model).exists()
    assert all(step.skip for step in rewrap.plan().steps), "there is nothing left to do"


def test_at_each_action_it_opens_with_one_of_the_two_and_goes_on(tmp_path: Path) -> None:
    """An end comes before and after each action; then it is done again, as far as it is not done."""
    count = sum(1 for _ in Rewrap(make(tmp_path / "count")).points())
    assert count >= 7
    for ends in range(count + 1):
        rewrap = Rewrap(make(tmp_path / str(ends)))
        for _, act in zip(range(ends), rewrap.points(), strict=False):
            act()
        assert rewrap.opens(rewrap.owner.master) != rewrap.opens(rewrap.new)
        again = [step.title for step in rewrap.plan().steps if not step.skip]
        all_of(rewrap)
        assert rewrap.opens(rewrap.new) and not new_directory(rewrap.model).exists(), again
        shutil.rmtree(tmp_path / str(ends))


def make(directory: Path) -> Path:
    directory.mkdir()
    return directory


def test_a_header_that_the_disk_takes_in_parts_is_whole(rewrap: Rewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: real(descriptor, bytes(data)[:100], at))
    taken = Path(rewrap.owner.encrypt(rewrap.model / WEIGHTS[0], rewrap.model.parent / WEIGHTS[0]))
    assert taken.read_bytes() == (rewrap.model / WEIGHTS[0]).read_bytes()
    all_of(rewrap)
    assert rewrap.opens(rewrap.new)


class Killed(BaseException):
    """Ends a worker where SIGKILL would."""


@pytest.mark.thorough
@pytest.mark.parametrize("call", ["rename", "fsync", "pwrite", "unlink", "fchmod"])
def test_within_a_worker_too(tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each call that changes the disk, of all workers in turn."""
    real, seen = getattr(os, call), 0
    for ends in range(1, 100):
        rewrap = Rewrap(make(tmp_path / f"{call}{ends}"))
        seen = 0

        def counted(*arguments: object, end: int = ends, **named: object) -> object:
            nonlocal seen
            seen += 1
            if seen == end:
                raise Killed
            return real(*arguments, **named)

        with monkeypatch.context() as patch:
            patch.setattr(os, call, counted)
            try:
                all_of(rewrap)
                break
            except Killed:
                pass
        assert rewrap.opens(rewrap.owner.master) != rewrap.opens(rewrap.new), (call, ends)
        all_of(rewrap)
        assert rewrap.opens(rewrap.new), (call, ends)
        shutil.rmtree(tmp_path / f"{call}{ends}")
    assert 0 < ends < 99


def test_a_key_name_of_another_length_moves_the_data(rewrap: Rewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrap.new = MasterKey("a-much-longer-name-of-a-key-0123456789", "aes256gcm", os.urandom(32))
    rewrap.new_key.write_text(key_text(rewrap.new))
    monkeypatch.setattr(os, "copy_file_range", unable)
    all_of(rewrap)
    assert rewrap.opens(rewrap.new)


def unable(*words: object) -> int:
    raise OSError(95, "not supported")


def test_two_keys_of_one_name_are_two_keys(rewrap: Rewrap, tmp_path: Path) -> None:
    """What was begun with another key of the same name is begun again: else no key would open all of it."""
    acts = rewrap.points()
    for _ in range(3):
        next(acts)()
    rewrap.new = MasterKey(rewrap.new.kid, "aes256gcm", os.urandom(32))
    rewrap.new_key.write_text(key_text(rewrap.new))
    all_of(rewrap)
    assert rewrap.opens(rewrap.new)
    owner, twin = rewrap.owner, MasterKey(rewrap.owner.master.kid, "aes256gcm", os.urandom(32))
    facts = [read_encryption(Recorded({}), tmp_path / "plain", tmp_path / "out", each, owner.signer) for each in (
        owner.master, twin) if begun(owner, tmp_path)]
    assert [[file.name for file in each.files or () if file.done] for each in facts] == [["config.json", WEIGHTS[1]], [
        "config.json"]]


def begun(owner: Owner, directory: Path) -> bool:
    """An encryption that was interrupted."""
    out = directory / "out"
    if not out.exists():
        owner.model(directory / "plain", directory / "whole")
        out.mkdir()
        owner.encrypt(directory / "plain" / WEIGHTS[1], out / WEIGHTS[1])
        copy_clear(directory / "plain" / "config.json", out / "config.json")
    return True


@pytest.mark.parametrize(("change", "why"), [
    (lambda one: (one.model / "notes.txt").write_text("x"), "rewrap.foreign"),
    (lambda one: (one.model / WEIGHTS[0]).unlink(), "rewrap.file"),
    (lambda one: os.truncate(one.model / WEIGHTS[0], 5000), "rewrap.file"),
    (lambda one: setattr(one, "new", one.owner.master), "rewrap.key"),
    (lambda one: setattr(one, "new", new_master("chacha20poly1305")), "rewrap.algorithm"),
    (lambda one: setattr(one.owner, "master", new_master("aes256gcm")), "rewrap.file"),
])
def test_what_cannot_be_rewrapped(rewrap: Rewrap, change: Callable[[Rewrap], object], why: str) -> None:
    change(rewrap)
    keys = rewrap.owner.master, rewrap.new
    found = check_rewrap(read_rewrap(Recorded({}), rewrap.model, keys, rewrap.owner.signer), rewrap.model, keys)
    assert why in {each.id for each in found}
    with pytest.raises(Refused):
        rewrap.plan()


def test_a_disk_of_its_own(rewrap: Rewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ext4's own is not foreign; that nothing can take the place of a mount is said before the work."""
    (rewrap.model / "lost+found").mkdir()
    assert rewrap.plan()
    (rewrap.model / "lost+found" / "#12").write_text("found by e2fsck")
    with pytest.raises(Refused) as refused:
        rewrap.plan()
    assert "lost+found/#12: is not of this model" in refused.value.message, "it would go with the old model"
    monkeypatch.setattr(os.path, "ismount", lambda path: path == rewrap.model)
    with pytest.raises(Refused) as refused:
        rewrap.plan()
    assert "a file system is mounted there" in "".join(refused.value.details)


def test_what_was_changed_since_it_was_signed_is_not_signed_again(rewrap: Rewrap) -> None:
    (rewrap.model / "config.json").write_text('{"architectures": ["EvilForCausalLM"]}')
    with pytest.raises(VmtoolError, match="not the file that was signed"):
        all_of(rewrap)
    assert json.loads((rewrap.model / "config.json").read_text())["architectures"] == ["EvilForCausalLM"]
    assert new_directory(rewrap.model).exists()


def test_directories_change_places_in_one_call(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "x").touch()
    clone.exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b" / "x").exists() and not (tmp_path / "a" / "x").exists()
    with pytest.raises(OSError, match="No such file"):
        clone.exchange(tmp_path / "a", tmp_path / "none")


def test_the_command_says_what_it_would_do(rewrap: Rewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmtool.models.rewrap.commands.LocalMachine", lambda: Recorded({}))
    words = ["--state-dir", str(rewrap.state.root), "model", "rewrap", str(rewrap.model), "--key",
             str(rewrap.owner.key), "--new-key", str(rewrap.new_key), "--sign", str(rewrap.owner.sign), "--dry-run"]
    shown = CliRunner().invoke(vmtool, words)
    assert shown.exit_code == 0 and f"wrap the keys of {WEIGHTS[0]}" in shown.output, shown.output
    secrets = [json.loads(path.read_text())[name] for path, name in (
        (rewrap.owner.key, "k"), (rewrap.new_key, "k"), (rewrap.owner.sign, "d"))]
    assert not any(secret in shown.output for secret in secrets)


def test_the_cipher_that_is_asked_for_is_the_keys(rewrap: Rewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LocalMachine", lambda: Recorded({}))
    base = ["--state-dir", str(rewrap.state.root), "model", "encrypt", str(rewrap.model.with_name("plain")), "-o",
            str(rewrap.model.with_name("o")), "--key", str(rewrap.owner.key), "--sign", str(rewrap.owner.sign),
            "--dry-run"]
    assert CliRunner().invoke(vmtool, [*base, "--alg", "aes256gcm"]).exit_code == 0
    refused = CliRunner().invoke(vmtool, [*base, "--alg", "chacha20poly1305"]).exception
    assert isinstance(refused, Refused) and "vmtool key generate --alg chacha20poly1305" in refused.hint


def test_nothing_is_removed_but_what_it_made(rewrap: Rewrap) -> None:
    removed = [action.path for step in rewrap.plan().steps for action in step.actions if isinstance(action, Remove)]
    assert removed == [new_directory(rewrap.model)]
