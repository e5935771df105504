"""Journals and records of a real instance are damaged: what is said is true, and the way out removes everything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool, footprint
from vmtool.engine.journal import NAME as JOURNAL
from vmtool.paths import State

PORT = 18491
NAME = "harmed"


def left(state: Path) -> dict[str, Any]:
    """What is there besides vmtool's private containerd, which one command starts and another ends."""
    found, own = footprint(), str(State(state).run)
    return found | {"processes": [each for each in found["processes"] if f"containerd --config {state}/" not in each],
                    "run": [each for each in found["run"] if each != own]}


@pytest.fixture
def running(vmtool: Vmtool, make_spec: MakeSpec) -> Iterator[Path]:
    """The directory of an instance that serves. Afterwards the machine is as before."""
    before = left(vmtool.state)
    vmtool("run", make_spec(NAME, PORT))
    yield vmtool.state / "instances" / NAME
    vmtool("recover", "--adopt", NAME, "--yes", status=None)
    vmtool("rm", "--yes", NAME, status=None)
    assert left(vmtool.state) == before


def flip(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    place = len(lines[6]) // 2
    lines[6] = lines[6][:place] + bytes([lines[6][place] ^ 1]) + lines[6][place + 1:]
    path.write_bytes(b"".join(lines))


def no_directory(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("harm", [
    flip, os.unlink, lambda path: path.write_bytes(b""), no_directory,
    lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:20])),
], ids=["a byte", "gone", "empty", "no directory", "cut"])
def test_whatever_becomes_of_the_journal_nothing_is_said_to_be_removed_while_it_serves(
        vmtool: Vmtool, running: Path, harm: Callable[[Path], object]) -> None:
    harm(running / JOURNAL)
    for words in (("rm", "--yes", NAME), ("recover",)):
        said = vmtool(*words, status=None)
        print(said.err)
        assert f"removed {NAME}" not in said.err
    # Of a journal that ends early rm undoes what is in it; what serves goes on, and is named.
    assert any(f"-id {NAME} " in process for process in footprint()["processes"])
    adopted = vmtool("recover", "--adopt", NAME, status=2)
    assert f"hint: vmtool recover --adopt {NAME} --yes" in adopted.err
    print(vmtool("recover", "--adopt", NAME, "--dry-run").out)
    print(vmtool("recover", "--adopt", NAME, "--yes").err)
    vmtool("rm", NAME, status=None)
    assert not footprint()["netns"] or f"vmtool-{NAME}" not in footprint()["netns"]


def test_without_its_pid_file_a_live_instance_runs_and_can_be_stopped(vmtool: Vmtool, running: Path) -> None:
    [row] = [row for row in vmtool("ps", "--json").json["instances"] if row["name"] == NAME]
    for text in (None, "", "1", "garbage"):
        (running / "container.pid").unlink(missing_ok=True)
        if text is not None:
            (running / "container.pid").write_text(text)
        [found] = [row for row in vmtool("ps", "--json").json["instances"] if row["name"] == NAME]
        assert (found["state"], found["pid"]) == ("running", row["pid"])
    vmtool("stop", NAME)
    [found] = [row for row in vmtool("ps", "--json").json["instances"] if row["name"] == NAME]
    assert (found["state"], found["pid"]) == ("stopped", None)
