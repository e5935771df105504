"""What a shell line names is what the action itself means: the paths whole, the one process, and as long as it waits.

tests/integration/test_shell_lines.py types them.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.shell_words import words
from tests.unit.sweeps import gpu, image, launch, models, net, rootfs, watch
from tests.unit.sweeps.engine import Case
from vmtool.containerd.actions import DeleteTask
from vmtool.endpoint.actions import AskCanary, AwaitHealth, ReadServer
from vmtool.endpoint.client import Server
from vmtool.gpu.actions import AwaitVfioNodes, AwaitVfioUnused
from vmtool.gpu.workers import vfio_in_use
from vmtool.libvirt.actions import GuestRequest
from vmtool.machine import Trust
from vmtool.net.actions import RemoveSharedChains
from vmtool.paths import State
from vmtool.plan import Action, RecordPid, StartDaemon, StopDaemon, question
from vmtool.plan.shell_parts import literal, lives
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.rootfs.actions import RunGuest

PLACE = "/srv/vm tool's"
AT = Path(PLACE)
# Not here: the fake of a container's log takes no such name, so that nothing runs that they could take up.
TAKEN_UP = ("upgrade", "launch runc, over an earlier one")
CASES: dict[str, Case] = {name: case for room in (net, gpu, launch, image, models, rootfs, watch)
                          for name, case in room.CASES.items() if name not in TAKEN_UP}


def broken(line: str) -> list[str]:
    """The words of a line in which such a path stands in pieces."""
    return [word for word in words(line) if word.endswith("/vm") or word.count("/vm tool") != word.count("/vm tool's")]


@pytest.mark.thorough
@pytest.mark.parametrize("case", CASES)
def test_every_path_is_one_word_to_the_shell(case: str, tmp_path: Path) -> None:
    """A state directory's name may have blanks and quotes in it."""
    state = State(tmp_path / AT.name)
    state.root.mkdir()
    plan = CASES[case].make(state, CASES[case].boot(state))
    lines = [action.shell() for step in plan.steps for action in (*step.actions, *step.undo)]
    assert [word for line in lines for word in broken(line)] == []


SERVER = Server("", 8000, AT / "result", Trust(AT / "tls"))


@pytest.mark.parametrize("action", [
    AwaitHealth(SERVER, AT / "pid", AT / "log", 0.5), ReadServer(SERVER, AT / "key", AT / "log", AT / "evidence"),
    AwaitVfioNodes((PLACE,)), AwaitVfioUnused((PLACE,)), RecordPid(AT / "pid"),
    StartDaemon((f"{PLACE}/program",), AT / "pid", AT / "log", AT / "socket"), StopDaemon(AT / "pid", AT / "users"),
    KillQemu("chat", f"{PLACE}/qemu"), DeleteTask(AT / "socket", "vmtool", "chat"),
    GuestRequest(AT / "socket", "network", AT / "pid", AT / "console", AT / "source", AT / "evidence"),
], ids=lambda action: type(action).__name__)
def test_so_it_is_in_lines_that_the_plans_above_seldom_have(action: Action) -> None:
    line = action.shell()
    assert any(PLACE in word for word in words(line))
    assert broken(line) == []


@pytest.mark.parametrize("line", [f"ls {PLACE}'", f"sh -c 'ls '{PLACE}''", f"sh -c \"ls '{AT}\"", '"$(ls /srv/vm x)"'])
def test_a_path_in_pieces_is_found(line: str) -> None:
    try:
        found = broken(line)
    except ValueError as error:
        found = [str(error)]
    assert found


# Patterns.


@given(st.text("a.b-+*?(){}[]|^$\\/", max_size=8), st.text("a.b-+*?(){}[]|^$\\/", max_size=8))
def test_a_name_in_a_pattern_is_no_other_name(name: str, other: str) -> None:
    assert bool(re.fullmatch(literal(name), other)) == (name == other)


def patterns(line: str) -> list[str]:
    """What a line has pgrep and pkill look for."""
    found = list(words(line))
    return [found[at + 1] for at, word in enumerate(found) if word == "--" and "-f" in found[at - 4:at]]


TASK = DeleteTask(Path("/run/c.sock"), "vmtool", "chat.b")
SHIM = "/usr/bin/containerd-shim-runc-v2 -namespace vmtool -id chat.b -address /run/c.sock "
KATA = ("/opt/kata/bin/containerd-shim-kata-v2 -namespace vmtool -address /run/c.sock -publish-binary "
        "/usr/bin/containerd -id chat.b ")


@pytest.mark.parametrize("shim", [
    SHIM, KATA, SHIM.replace("chat.b", "chat-b"), SHIM.replace("chat.b", "chat.bc"), SHIM.replace("vmtool", "other"),
    SHIM.replace("/c.sock", "/other.sock"), KATA.replace("chat.b", "chat-b"), KATA.replace("vmtool", "other"),
    KATA.replace("/c.sock", "/c-sock"), f"sh -c {SHIM}"])
def test_a_shim_is_killed_when_it_is_the_tasks(shim: str) -> None:
    found = patterns(TASK.shell())
    assert [bool(re.search(pattern, shim)) for pattern in found] == [shim in (SHIM, KATA)] * 2


def test_a_task_is_asked_for_in_a_third_of_the_time_then_killed_until_its_end() -> None:
    order = re.findall(r"timeout \d+|pgrep|pkill -KILL|\|\|", TASK.shell())
    assert order == ["timeout 20", "pgrep", "||", "timeout 40", "pkill -KILL"]


@pytest.mark.parametrize(("arguments", "its"), [
    ("/usr/bin/qemu -name sandbox-chat.b,debug-threads=on -m 1", True), ("/q -name guest=sandbox-chat.b", True),
    ("/q -name sandbox-chat-b -m 1", False), ("/q -name sandbox-chat.bc", False), ("/q -name a-sandbox-chat.b", False)])
def test_a_guest_of_a_name_that_is_alike_is_another(arguments: str, its: bool) -> None:
    [pattern] = patterns(KillQemu("sandbox-chat.b", "/q").shell())
    assert bool(re.search(pattern, arguments)) == its
    look = ExpectTee("sandbox-chat.b", "snp", (), "", "", Path("/e"), pidfile=Path("/p")).shell()
    assert pattern in words(look)


def test_a_guests_program_is_compared_by_its_real_path() -> None:
    line = KillQemu("chat", "/opt/g++/qemu").shell()
    assert "readlink -m /opt/g++/qemu" in line
    assert "readlink /proc/$pid/exe" in line


def test_networks_of_others_are_those_in_another_directory() -> None:
    line = RemoveSharedChains(Path("/state/a.b/chains-made"), Path("/state/a.b"), "a.b").shell()
    assert "ls /state/a.b/*/network.json 2>/dev/null | grep -vxF -e /state/a.b/a.b/network.json)" in line


# A process, by pid and start time.

NUMBERS = "1 7 7 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0"


@pytest.mark.parametrize(("stat", "its"), [
    (f"7 (sleep) S {NUMBERS} 123 9 9", True), (f"7 (a) b) R {NUMBERS} 123 9", True),
    (f"7 (sleep) Z {NUMBERS} 123 9", False), (f"7 (sleep) X {NUMBERS} 123 9", False),
    (f"7 (sleep) S {NUMBERS} 1234 9", False), (f"7 (sleep) S {NUMBERS} 9 123", False),
    (f"7 (x) S 1 2 3 4) Z {NUMBERS} 9 9", False)])
def test_the_process_of_a_pid_file_is_known_by_its_start_and_no_zombie(stat: str, its: bool) -> None:
    line = lives(Path("/run/pid"))
    assert line.startswith("read -r pid since 2>/dev/null < /run/pid && grep ")
    pattern = line.split('"')[1].replace("$since", "123")
    assert bool(re.search(pattern, stat)) == its


@pytest.mark.parametrize("action", [
    StartDaemon(("x",), Path("/run/pid"), Path("/log"), Path("/s")), StopDaemon(Path("/run/pid"), Path("/users")),
    ExpectTee("n", "snp", (), "", "", Path("/e"), pidfile=Path("/run/pid"))], ids=lambda action: type(action).__name__)
def test_a_pid_is_used_after_that(action: Action) -> None:
    test = lives(Path("/run/pid"))
    before, _, after = action.shell().partition(test)
    assert after
    assert "$pid" not in before
    assert "cut -d' ' -f1" not in action.shell()


# How long.


def test_a_device_is_free_when_the_worker_has_said_so() -> None:
    """Also where fuser is missing, and when the kernel alone has it."""
    assert AwaitVfioUnused(()).shell() == ":"
    devices = ("/sys/a", "/sys/b")
    *start, loop = shlex.split(AwaitVfioUnused(devices, deadline=0.5).shell())
    asked = shlex.join(question(vfio_in_use.Order(devices)))
    assert (start, loop) == (["timeout", "0.5", "sh", "-c"],
                             f'until held=$({asked}) && [ -z "$held" ]; do sleep 0.2; done')


def request(**more: object) -> str:
    return GuestRequest(Path("/c"), "report", Path("/p"), Path("/k"), **more).shell()  # type: ignore[arg-type]


def test_a_guests_answer_counts_when_it_is_whole() -> None:
    """socat ends without a word when its time is over."""
    line = request(evidence=Path("/e"), deadline=0.5)
    assert "socat -t0.5 " in line
    assert line.index("tail -n 1 | grep -qx end && ") < line.index("/dev/stdin /e && ")
    assert "grep -qx end" not in request(fleeting=True)
    assert line.endswith("| grep ^refused; }")


@pytest.mark.parametrize("action", [
    AskCanary(SERVER, AT, "m", "Why?", "So.", "exact", AT, deadline=0.5), ReadServer(SERVER, AT, AT, AT, deadline=0.5)],
    ids=lambda action: type(action).__name__)
def test_a_server_is_asked_for_as_long(action: Action) -> None:
    assert " -m 0.5 " in action.shell()


def test_a_guest_that_does_not_end_is_ended() -> None:
    line = RunGuest(("qemu", "-m", "1"), env=(("TMPDIR", "/a b"),), deadline=0.5).shell()
    assert line == "TMPDIR='/a b' timeout 0.5 qemu -m 1"
    boot = rootfs.CASES["rootfs boot"]
    state = State(Path("/state"))
    actions = [action for step in boot.make(state, boot.boot(state)).steps for action in step.actions]
    assert [type(action) for action in actions if "-nodefaults" in action.shell()] == [RunGuest]
