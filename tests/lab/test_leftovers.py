"""Whatever ends a session, no process, socket or directory of its machines is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.lab import cache, topology
from tests.lab.cache import LabError
from tests.lab.lab import Lab
from tests.lab.topology import Topology
from tests.lab.vm import LabVm
from vmtool.host.processes import start_time

KILLED = """
import sys
from tests.lab.lab import prepare
from tests.lab.topology import H100_PAIR
from tests.lab.vm import LabVm
with LabVm(prepare(), H100_PAIR) as vm:
    print(vm.process.pid, vm.directory, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_session_that_is_ended_leaves_nothing(lab: Lab, how: signal.Signals) -> None:
    session = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    assert session.stdout
    assert session.stdin
    pid, directory = session.stdout.readline().split()
    session.send_signal(how)
    session.wait(30)
    session.stdin.close()
    session.stdout.close()
    end = time.monotonic() + 10
    while processes_in(directory) and time.monotonic() < end:
        time.sleep(0.1)
    assert not processes_in(directory)
    assert start_time(int(pid)) is None                # gone, or a zombie that nobody has waited for
    with LabVm(lab, topology.SOLE):                    # the next machine sweeps what a kill left
        assert not Path(directory).exists()


def processes_in(directory: str) -> list[str]:
    """Processes that work in a directory: QEMU and the server of the fakes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(directory):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_machine_that_cannot_start_says_why_and_leaves_nothing(lab: Lab) -> None:
    bad = Topology("bad", (topology.Device("no-such-device"),))
    with pytest.raises(LabError, match="no-such-device"), LabVm(lab, bad, from_boot=True):
        pass
    assert not list((cache.ROOT / "run").glob(f"{os.getpid()}-*-bad-*"))
