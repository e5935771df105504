"""Programs that run beside each other: real ones, asked for in another order, or by nobody."""

from __future__ import annotations

import os
import time

import pytest

from vmtool.host.local import LocalMachine

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


def test_what_nobody_asked_for_is_ended_with_the_block() -> None:
    machine = LocalMachine()
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError), machine.beside((WAITS,)):
        assert machine._beside is not None
        [child] = machine._beside.running.values()
        assert child.stdout is not None
        assert int(child.stdout.readline()) == child.pid
        raise ZeroDivisionError
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
    assert machine._beside is None
    assert time.monotonic() - begun < 60


def test_one_that_does_not_end_has_no_output_and_is_ended() -> None:
    machine = LocalMachine()
    with machine.beside((WAITS,)):
        assert machine._beside is not None
        [child] = machine._beside.running.values()
        assert machine.run(WAITS, deadline=0.1) is None
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)
