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
from tests.lab.conftest import skip_unless_possible
from tests.lab.lab import Lab
from tests.lab.topology import Topology
from tests.lab.vm import LabVm
from vmtool.host.processes import start_time

# The lab itself; the tests of vmtool's commands there would tell that it is broken, without saying where.
pytestmark = pytest.mark.slow
KILLED = """
import sys
from tests.lab.lab import prepare
from tests.lab.topology import H100_PAIR
from tests.lab.vm import LabVm
with LabVm(prepare(), H100_PAIR) as vm:
    print(vm.process.pid, vm.directory, flush=True)
    sys.stdin.read()
"""


@pytest.mark.timing
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_session_that_is_ended_leaves_nothing(lab: Lab, how: signal.Signals) -> None:
    session = subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True)
    assert session.stdout
    assert session.stdin
    pid, directory = session.stdout.readline().split()
    session.send_signal(how)
    session.wait(120)
    session.stdin.close()
    session.stdout.close()
    end = time.monotonic() + 60
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


@pytest.mark.timing
def test_a_build_that_is_killed_leaves_no_process_and_no_mount(tmp_path: Path) -> None:
    skip_unless_possible()
    argv = [sys.executable, "-m", "tests.lab", "build", "--arch", "x86_64"]
    session = subprocess.Popen(argv, stderr=subprocess.DEVNULL,
                               env=os.environ | {"VMTOOL_CACHE": str(tmp_path)})
    end = time.monotonic() + 300
    while len(arguments_with(f"{tmp_path}/lab")) < 3 and session.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    started = arguments_with(f"{tmp_path}/lab")
    session.kill()
    session.wait(60)
    end = time.monotonic() + 60
    while arguments_with(f"{tmp_path}/lab") and time.monotonic() < end:
        time.sleep(0.1)
    assert started, "the build did not get so far"
    assert arguments_with(f"{tmp_path}/lab") == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


def arguments_with(text: str) -> list[str]:
    """Processes that name a path in their arguments, such as mmdebstrap and apt with their tree."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_a_machine_that_cannot_start_says_why_and_leaves_nothing(lab: Lab) -> None:
    bad = Topology("bad", (topology.Device("no-such-device"),))
    with pytest.raises(LabError, match="no-such-device"), LabVm(lab, bad, from_boot=True):
        pass
    assert not list((cache.ROOT / "run").glob(f"{os.getpid()}-*-bad-*"))
