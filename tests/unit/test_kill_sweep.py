"""Every planner's plan is ended at every point, and `vmtool recover` puts the machine back."""

from __future__ import annotations

import ast
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.fakes.kinds import KINDS
from tests.sources import parsed
from tests.unit.sweeps import gpu, image, launch, models, net, rootfs, watch
from tests.unit.sweeps.engine import Case, Sweep, do, undo
from tests.unit.sweeps.remembered import Remembered
from vmtool.engine import apply, journal_file, journal_state
from vmtool.engine.journal_lines import parse_lines
from vmtool.machine import Host
from vmtool.paths import State
from vmtool.plan import Action, WriteFile

pytestmark = pytest.mark.thorough
CASES: dict[str, Case] = {**net.CASES, **gpu.CASES, **launch.CASES, **image.CASES, **models.CASES,
                          **rootfs.CASES, **watch.CASES}


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of journals are written here, and no power is cut; and every key is the same."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(apply, "to_json", lambda plan: {})  # plan.json is for people
    remembered = Remembered()
    monkeypatch.setattr(journal_file, "parse_lines", remembered.parse_lines)
    monkeypatch.setattr(journal_state, "action_from_json", remembered.action_from_json)
    monkeypatch.setattr(secrets, "token_hex", lambda size: "5e" * size)


@pytest.fixture
def directory() -> Iterator[Path]:
    """In memory, if there is such a place."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as path:
        yield Path(path)


@pytest.fixture
def sweep(case: str, directory: Path) -> Sweep:
    return Sweep(CASES[case], State(directory / "state"))


def test_what_is_remembered_of_journals_is_what_would_be_read() -> None:
    """Of two that part on their way, whole and cut short."""
    remembered = Remembered()
    for last in ("applied", "failed"):
        lines, data = parse_lines(b"", "gpu/x"), b""
        for event in ("plan", "step", last, "clean"):
            data += lines.next_line({"event": event}).encode()
            for each in (data, data[:-1], data[:-9]):
                assert remembered.parse_lines(each, "gpu/x") == parse_lines(each, "gpu/x")


# The steps of these are in other cases as well.
LONG = ("launch libvirt, a GPU", "launch libvirt, a TPM", "launch libvirt, not confidential",
        "launch runc, a model of a hub", "launch runc, the system's containerd", "net add", "net reset, on a busy host")
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in CASES]
ALL = pytest.mark.parametrize("case", NAMES)
# Their undo is that of the launch and of what it takes up on its way, which are cases themselves.
VARIANTS = tuple(name for name in CASES if name.startswith("launch ") and ", " in name)
UNDONE = pytest.mark.parametrize("case", [
    pytest.param(name, marks=[pytest.mark.slow] if name in (*LONG, *VARIANTS) else [])
    for name in CASES if not CASES[name].repeated])


@ALL
def test_killed_at_any_point_it_is_undone_without_a_trace(sweep: Sweep) -> None:
    assert "\n".join(sweep.killed("do")) == ""


@UNDONE
def test_killed_within_its_undo_the_next_undo_finishes_it(sweep: Sweep) -> None:
    assert "\n".join(sweep.killed("undo")) == ""


@UNDONE
def test_killed_within_a_recovery_the_next_one_finishes_it(sweep: Sweep) -> None:
    assert "\n".join(sweep.killed("recover")) == ""


@ALL
def test_when_any_action_fails_all_goes_back(sweep: Sweep) -> None:
    assert "\n".join(sweep.failed()) == ""


# Every function of vmtool that makes a plan, and a case that has one of its.
PLANNERS = {
    "gpu.plan_bind.plan_bind": "gpu bind", "gpu.plan_cc_mode.plan_cc": "gpu cc-mode set on",
    "gpu.plan_release.plan_release": "gpu release", "image.plan_build.plan_build": "image build",
    "image.plan_import.plan_import": "image import", "launch.pipeline.plan_launch": "launch runc",
    "launch.plan_reference.plan_files": "attest reference",
    "launch.plan_upgrade.plan_upgrade": "upgrade", "launch.commands.upgrade.make_upgrade": "upgrade",
    "models.encryption.plan_encrypt.plan_encrypt": "model encrypt", "models.plan_model.plan_model": "model canary",
    "models.rewrap.plan_rewrap.plan_rewrap": "model rewrap",
    "models.plan_smollm2.plan_packages": "model smollm2, its packages",
    "net.commands.make": "net reset", "net.plan_add.plan_add": "net add",
    "rootfs.add.plan_file.plan_add": "rootfs add file", "rootfs.add.plan_guestfs.plan_insert":
        "rootfs add hook, in a guest", "rootfs.add.plan_guestfs.plan_look": "rootfs inspect, in a guest",
    "rootfs.add.plan_rebuild.plan_rebuild": "rootfs add package", "rootfs.boot.plan.plan_boot": "rootfs boot",
    "rootfs.build.plan.plan_build": "rootfs build", "rootfs.commands.shared.make": "rootfs, bring back",
    "rootfs.grow.plan.plan_resize": "rootfs resize, in place", "watch.plan.plan_install": "watch --install",
}
# Functions that are called like planners and make no step of a plan that is applied.
NO_STEPS = {
    "launch.commands.plan.plan_command": "the command that shows a plan", "plan.runbook.plan_lines": "prints one",
    "net.plan_reset.plan_check": "CHECK of CNI's plugins, for `vmtool net check`",
}
# Plans that only show an authoriser what is about to be done, which has no undo or is one.
SHOWN = {"engine.transactions.undo_plan", "launch.stop.stop_instance", "launch.stop.drain_instance",
         "launch.commands.instance.exec_command", "launch.commands.token.change", "tls.own.own_authority",
         "tls.commands._renew"}
VMTOOL = Path(__file__).parents[2] / "vmtool"


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Every function of vmtool, by module and name."""
    for path in sorted(VMTOOL.rglob("*.py")):
        module = ".".join(path.relative_to(VMTOOL).with_suffix("").parts)
        yield from ((f"{module}.{node.name}", node) for node in ast.walk(parsed(path))
                    if isinstance(node, ast.FunctionDef))


def own_calls(function: ast.FunctionDef) -> set[str]:
    """What a function calls itself, and not in a function within it."""
    found, left = set(), list(ast.iter_child_nodes(function))
    while left:
        node = left.pop()
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func))
    return found


def plans_steps(name: str) -> bool:
    """Planners of steps are named so, and so are those of a launch's stages."""
    module, _, function = name.rpartition(".")
    return function.startswith("plan_") or (function in ("prepare", "steps") and "stage" in module)


def test_every_planner_is_in_the_table() -> None:
    assert {name for name, function in functions() if own_calls(function) & {"Plan", "p.Plan"}} == {
        *PLANNERS, *SHOWN}
    assert set(PLANNERS.values()) <= set(CASES)


def test_every_function_that_plans_steps_has_some_in_a_plan_of_the_table(directory: Path) -> None:
    called: set[str] = set()

    def see(frame: FrameType, event: str, value: object) -> None:
        if event == "call" and plans_steps(name := f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"):
            called.add(name.removeprefix("vmtool."))

    for number, case in enumerate(CASES.values()):
        state = State(directory / str(number) / "state")
        (directory / str(number)).mkdir()
        machine = case.boot(state)
        sys.setprofile(see)
        try:
            case.make(state, machine)
        finally:
            sys.setprofile(None)
    assert {name for name, _ in functions() if plans_steps(name)} - called == set(NO_STEPS)


def test_every_action_is_done_on_a_machine_that_reacts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no file is written where its directory is not there: its shell line would fail."""
    seen: set[type[Action]] = set()
    lost: list[str] = []

    def seeing(kind: type[Action], do: Callable[[Action, Host], None]) -> Callable[[Action, Host], None]:
        def done(action: Action, host: Host) -> None:
            seen.add(kind)
            if isinstance(action, WriteFile) and not host.exists(str(action.path.parent)):
                lost.append(str(action.path))
            do(action, host)

        return done

    for kind in KINDS:
        monkeypatch.setattr(kind, "do", seeing(kind, kind.do))
    for number, case in enumerate(CASES.values()):
        (directory / str(number)).mkdir()
        sweep = Sweep(case, State(directory / str(number) / "state"))
        machine, plan = sweep.fresh()
        do(sweep.state, machine, plan)
        undo(sweep.state, machine, plan)
    assert set(KINDS) - seen == set()
    assert lost == []
