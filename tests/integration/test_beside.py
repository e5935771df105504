"""Programs that run beside each other: real ones, asked for in another order, or by nobody."""

from __future__ import annotations

import os
import select
import subprocess
import time

import pytest

from vmtool.errors import ProgramMissing
from vmtool.host import processes
from vmtool.host.local import LocalMachine
from vmtool.isolation import python

SAYS = ("sh", "-c", "echo said; echo $$")
WAITS = ("sh", "-c", "echo $$; exec sleep 60")


def test_each_is_asked_for_in_any_order_and_once() -> None:
    machine, other = LocalMachine(), ("sh", "-c", "echo other")
    with machine.beside((SAYS, other, SAYS, ("no-such-program-of-ours",))):
        second, first, again = machine.run(other), machine.run(SAYS), machine.run(SAYS)
        assert machine.run(("no-such-program-of-ours",)) is None
    assert second and first and again
    assert (second.out, first.out.splitlines()[0]) == ("other\n", "said")
    assert first.out != again.out, "asked once more, it runs once more"
    assert machine.run(SAYS)


def test_what_runs_already_further_out_is_not_started_again() -> None:
    machine, inside = LocalMachine(), ("sh", "-c", "echo inside")
    with machine.beside((SAYS,)):
        assert machine._beside is not None
        child = machine._beside.running[SAYS].child
        with machine.beside((SAYS, inside)):
            assert list(machine._beside.running) == [inside]
            said, other = machine.run(SAYS), machine.run(inside)
            assert said and other
            assert (said.out, other.out) == (f"said\n{child.pid}\n", "inside\n")
        again = machine.run(SAYS)
        assert again and again.out != said.out, "the inner block's end leaves the outer one"


def test_what_nobody_asked_for_is_ended_with_the_block() -> None:
    machine = LocalMachine()
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError), machine.beside((WAITS,)):
        assert machine._beside is not None
        [program] = machine._beside.running.values()
        child = program.child
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    assert machine._beside is None
    assert time.monotonic() - begun < 60


def test_one_that_says_much_waits_for_no_reader() -> None:
    """It may hold a lock that another one waits for, who is asked first."""
    machine, ours, theirs = LocalMachine(), *os.pipe()
    much = ("sh", "-c", f"head -c 1000000 /dev/zero; echo done > /proc/{os.getpid()}/fd/{theirs}")
    with machine.beside((much,)):
        assert select.select([ours], [], [], 30)[0], "nobody has asked for it"
        assert os.read(ours, 5) == b"done\n"
        found = machine.run(much)
    assert found and len(found.out) == 1000000
    os.close(ours)
    os.close(theirs)


def test_one_that_does_not_end_has_no_output_and_is_ended() -> None:
    machine = LocalMachine()
    with machine.beside((WAITS,)):
        assert machine._beside is not None
        child = next(iter(machine._beside.running.values())).child
        assert machine.run(WAITS, deadline=0.1) is None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_what_is_run_dies_with_vmtool() -> None:
    """The program's end is seen by the end of the pipe that it has from its start."""
    ours, theirs = os.pipe()
    program = ("bash", "-c", f"echo $$ >&{theirs}; exec sleep 60")
    code = ("from vmtool.host import processes as p; from subprocess import DEVNULL as null; "
            f"p.finish(p.start({program!r}, null, null, null, kept=({theirs},)), (), 60)")
    with subprocess.Popen(python("-c", code), pass_fds=(theirs,)) as child:
        os.close(theirs)
        assert int(os.read(ours, 20)) > 0
        child.kill()
    assert select.select([ours], [], [], 30)[0]
    assert os.read(ours, 20) == b""
    os.close(ours)


def test_a_program_that_cannot_be_executed_is_no_fault_of_vmtools(tmp_path: object) -> None:
    file = f"{tmp_path}/text"
    with open(file, "w") as text:
        text.write("no program")
    assert processes.run((file,), deadline=10).status in (126, 127)
    with pytest.raises(ProgramMissing):
        processes.run((f"{file}.gone",), deadline=10)
