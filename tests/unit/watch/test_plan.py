"""The systemd unit of watch: what is in it, and that it is no other state directory's."""

from __future__ import annotations

import configparser
import shlex
from pathlib import Path

import pytest

from tests.fakes.typed import typed
from vmtool.paths import DEFAULT, State
from vmtool.watch.plan import UNITS, plan_install, quoted, unit_of, unit_text


def test_each_state_directory_has_a_unit_of_its_own() -> None:
    assert unit_of(State(Path(DEFAULT))) == "vmtool-watch.service"
    assert unit_of(State(Path("/s"))) != unit_of(State(Path("/t")))
    assert str(plan_install(State(Path("/s")), installed="").directory) == "/s/watch/unit"


def test_the_unit_starts_this_vmtool_and_leaves_what_that_starts_alone() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit_text(State(Path("/s"))))
    assert shlex.split(parser["Service"]["ExecStart"])[1:] == ["-I", "-m", "vmtool", "--state-dir", "/s", "watch"]
    assert parser["Unit"]["RequiresMountsFor"] == "/s", "at boot it waits for the disk"
    assert parser["Service"]["KillMode"] == "process", "containerd and its shims are in its control group"
    assert parser["Service"]["Restart"] == "always"
    assert parser["Install"]["WantedBy"] == "multi-user.target"


def test_what_systemd_would_replace_in_a_path_is_written_so_that_it_is_not() -> None:
    lines = unit_text(State(Path("/50%/$HOME it"))).splitlines()
    assert 'RequiresMountsFor="/50%%/$HOME it"' in lines
    assert any(line.startswith("ExecStart=") and '"/50%%/$$HOME it"' in line for line in lines)


def test_what_is_installed_is_installed_once() -> None:
    state = State(Path("/s"))
    assert not plan_install(state, installed=unit_text(state)).changes
    [step] = plan_install(state, installed="an older one").steps
    assert [action.shell() for action in step.actions][1:] == [
        "systemctl daemon-reload", f"systemctl enable {unit_of(state)}", f"systemctl restart {unit_of(state)}"]
    assert [action.shell() for action in step.undo][1] == f"rm -rf --one-file-system {UNITS}/{unit_of(state)}"


@pytest.mark.parametrize(("options", "written"), [
    ((), []), (("--health-every", "5"), ["--health-every", "5.0"]),
    (("--claims-every", "60", "--canary-every", "300"), ["--claims-every", "60.0"])])
def test_the_unit_asks_as_often_as_was_typed(tmp_path: Path, options: tuple[str, ...], written: list[str]) -> None:
    """What is usual needs no word."""
    shown = typed(tmp_path / "s", "watch", "--install", "--dry-run", *options)
    [line] = [line for line in shown.stdout.splitlines() if "ExecStart=" in line]
    assert shlex.split(line)[-1 - len(written):] == ["watch", *written]


@pytest.mark.parametrize(("word", "written"), [
    ("/s", "/s"), ("/a b", '"/a b"'), ("/50%", '"/50%%"'), ("$HOME", "$HOME"), ('a"b', '"a\\"b"'),
    ("it's", '"it\'s"')])
def test_a_word_is_written_as_systemd_reads_it(word: str, written: str) -> None:
    assert quoted(word) == written
