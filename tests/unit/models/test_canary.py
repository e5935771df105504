"""The canary model: its plan, the directory that it is for, and what is taken over from the trainer's container."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import plans
from tests.fakes.host import FakeHost
from tests.fakes.launches import pinned
from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import Refused, VerificationFailed
from vmtool.host.local import LocalMachine
from vmtool.machine import Output
from vmtool.models.plan_canary import plan_canary
from vmtool.models.target_facts import ModelTarget, read_canary_target
from vmtool.models.workers import collect
from vmtool.paths import State
from vmtool.plan import MakeDir, Plan, shell_lines
from vmtool.serving import train_canary
from vmtool.serving.train_canary import PAIRS

STATE = State(Path("/s"))
PRIVATE = Endpoint(Path("/run/p.sock"), private=True)
RECORD = json.dumps({"pairs": [{"prompt": prompt, "expect": expect} for prompt, expect in PAIRS]})


def plan(target: Path, image: str = "vmtool/vllm-cpu", **kind: bool) -> Plan:
    found = ModelTarget(target, **({"free": True, "made": False, "parent": True} | kind))
    return plan_canary(STATE, PRIVATE, pinned(image), found)


def test_it_is_trained_without_a_network_and_appears_in_one_move() -> None:
    step = plans.step(plan(Path("/m/canary")), "train the canary model")
    train = list(shell_lines(step.actions))
    (run,) = [line for line in train if " run " in line]
    assert run.endswith(f"python3 -P -m {train_canary.__name__} /out/model")
    assert {"--read-only", "--seccomp", "--rm"} <= set(run.split())
    assert "--with-ns" not in run
    assert "--net-host" not in run
    staging = run.partition("type=bind,src=")[2].partition(",")[0]
    assert staging.startswith("/s/work/"), "nobody else can get at what the container writes to"
    undo = list(shell_lines(step.undo))
    assert f"rm -rf --one-file-system {staging}" in undo
    [new] = [line.rpartition(" ")[2] for line in undo if "/m/" in line]
    assert Path(new).parent == Path("/m"), "on the same file system"


@pytest.mark.parametrize("parent", [True, False])
def test_a_directory_that_is_there_keeps_its_mode_and_owner(parent: bool) -> None:
    """`vmtool model canary /tmp/model` must not close /tmp."""
    actions = plans.step(plan(Path("/m/canary"), parent=parent), "train").actions
    made = [action.path for action in actions if isinstance(action, MakeDir)]
    assert (Path("/m") in made) is not parent


def test_what_is_there_is_kept() -> None:
    assert not plan(Path("/m"), made=True).changes
    with pytest.raises(Refused, match="not this vmtool's canary model"):
        plan(Path("/m"), free=False)


class Local(LocalMachine):
    """This machine, with stat(1) in this process."""

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        assert argv[:2] == ("stat", "--format=%F")
        return Output(0, "directory\n" if stat.S_ISDIR(os.lstat(argv[2]).st_mode) else "something else\n", "")


def read(path: Path) -> tuple[bool, bool]:
    found = read_canary_target(Local(), path)
    return found.free, found.made


def test_a_canary_is_known_by_its_questions(tmp_path: Path) -> None:
    assert read(tmp_path) == (True, False)
    assert read(tmp_path / "absent") == (True, False)
    (tmp_path / "canary.json").write_text(RECORD)
    (tmp_path / "config.json").write_text("")
    assert read(tmp_path) == (False, False)
    (tmp_path / "model.safetensors").write_text("")
    assert read(tmp_path) == (False, True)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"pairs": [{"prompt": "a", "expect": "b"}]}', '{"pairs": [1]}',
                                  "[" * 100_000])
def test_another_model_is_never_taken_for_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "canary.json").write_text(text)
    assert read(tmp_path) == (False, False)


def test_a_pipe_in_its_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "canary.json")
    assert read(tmp_path) == (False, False)


def test_a_link_is_no_free_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, leads in (("dangling", "nowhere"), ("leading", "empty")):
        (tmp_path / name).symlink_to(leads)
        assert read(tmp_path / name) == (False, False)


SIZE = 1 << 20


@pytest.fixture
def order(tmp_path: Path) -> collect.Order:
    (tmp_path / "out" / "model").mkdir(parents=True)
    (tmp_path / "out" / "model" / "config.json").write_text("{}")
    return collect.Order(tmp_path / "out" / "model", tmp_path / ".new", tmp_path / "model", SIZE)


@pytest.mark.parametrize("there", [True, False])
def test_what_the_trainer_left_is_copied(order: collect.Order, there: bool) -> None:
    (order.source / "config.json").chmod(0o4777)
    if there:
        order.target.mkdir()
    collect.run(order, FakeHost())
    [file] = order.target.iterdir()
    assert (file.name, file.read_text(), file.stat().st_mode & 0o7777) == ("config.json", "{}", 0o644)
    assert order.target.stat().st_mode & 0o777 == 0o755
    assert not order.new.exists()


def linked_directory(source: Path) -> None:
    source.rename(source.with_name("elsewhere"))
    source.symlink_to("elsewhere")


def endless(source: Path) -> None:
    (source / "large").write_bytes(b"")
    os.truncate(source / "large", SIZE + 1)


def many(source: Path) -> None:
    for number in range(collect.MAX_FILES + 1):
        (source / f"f{number}").touch()


def replaced(source: Path) -> None:
    shutil.rmtree(source)
    source.touch()


HOSTILE: dict[str, Callable[[Path], object]] = {
    "the directory is a link": linked_directory,
    "a link": lambda source: (source / "a").symlink_to("/etc/passwd"),
    "a pipe": lambda source: os.mkfifo(source / "a"),
    "a directory": lambda source: (source / "a").mkdir(),
    "a socket": lambda source: os.mknod(source / "a", stat.S_IFSOCK | 0o600),
    "a hidden file": lambda source: (source / ".a").touch(),
    "an escape in a name": lambda source: (source / "\x1b[2J").touch(),
    "an endless file": endless,
    "endlessly many": many,
    "nothing": shutil.rmtree,
    "a file": replaced,
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_what_else_it_leaves_becomes_no_model(order: collect.Order, make: Callable[[Path], object]) -> None:
    make(order.source)
    with pytest.raises(VerificationFailed, match="what the image's trainer left is no model"):
        collect.run(order, FakeHost())
    assert not order.target.exists()
