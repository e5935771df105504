"""Commands, files, deadlines, restores and reboots: the way into a machine holds when the machine misbehaves."""

from __future__ import annotations

import signal
import time

import pytest

from tests.lab import topology
from tests.lab.cache import LabError
from tests.lab.channel import Gone
from tests.lab.running import DeadlinePassed
from tests.lab.sysfs import PCI, bind, driver
from tests.lab.vm import LabVm

# The lab itself; the tests of vmtool's commands there would tell that it is broken, without saying where.
pytestmark = pytest.mark.slow
GPU = "0000:00:05.0"


@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_the_wedge_gives_a_real_d_state_and_the_next_command_runs(vm: LabVm) -> None:
    vm.sh(f"modprobe wedge; echo wedge > {PCI}/{GPU}/driver_override; echo {GPU} > /sys/bus/pci/drivers_probe")
    stuck = vm.start(["sh", "-c", f"echo {GPU} > /sys/bus/pci/drivers/wedge/unbind"], deadline=600)
    end = time.monotonic() + 120
    while "wedge_remove" not in vm.sh(f"cat /proc/{stuck.pid}/stack") and time.monotonic() < end:
        time.sleep(0.1)
    assert vm.sh(f"cut -d' ' -f3 /proc/{stuck.pid}/stat") == "D"
    vm.run(["kill", "-KILL", str(stuck.pid)])
    assert vm.sh(f"cut -d' ' -f3 /proc/{stuck.pid}/stat") == "D"
    vm.sh("echo 0 > /sys/module/wedge/parameters/hold")
    assert stuck.wait(120).status == -signal.SIGKILL


@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_a_command_that_hangs_tells_where(vm: LabVm) -> None:
    vm.sh(f"modprobe wedge; echo wedge > {PCI}/{GPU}/driver_override; echo {GPU} > /sys/bus/pci/drivers_probe")
    with pytest.raises(DeadlinePassed) as caught:
        vm.run(["sh", "-c", f"echo begun; echo {GPU} > /sys/bus/pci/drivers/wedge/unbind"], deadline=5)
    assert caught.value.output.out == "begun\n"
    assert any("wedge_remove" in line for line in caught.value.state)
    assert caught.value.state[-1] == "not to be killed: abandoned"


@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
class TestAgent:
    """Commands, files and deadlines."""

    def test_bytes_status_and_streams_arrive_as_they_are(self, vm: LabVm) -> None:
        data = bytes(range(256)) * 4096
        vm.put("/root/a dir/file", data, 0o600)
        assert vm.get("/root/a dir/file") == data
        result = vm.run(["sh", "-c", "cat | wc -c; echo two >&2; exit 7"], stdin=data)
        assert (result.status, result.out, result.err) == (7, f"{len(data)}\n", "two\n")

    def test_a_program_that_is_missing_is_told(self, vm: LabVm) -> None:
        assert (vm.run(["no-such"]).status, vm.run(["no-such"]).err) == (127, "no-such: No such file or directory")
        with pytest.raises(LabError, match="FileNotFoundError"):
            vm.get("/no/such/file")

    def test_a_daemon_left_behind_does_not_hold_the_answer(self, vm: LabVm) -> None:
        assert vm.run(["sh", "-c", "sleep 60 & echo done"], deadline=50).out == "done\n"

    def test_a_deadline_ends_the_whole_group(self, vm: LabVm) -> None:
        with pytest.raises(DeadlinePassed, match="killed"):
            vm.run(["sh", "-c", "sleep 61 & sleep 62"], deadline=1)
        assert vm.run(["pgrep", "-f", "sleep 6[12]"]).status == 1

    def test_kill9(self, vm: LabVm) -> None:
        running = vm.start(["sleep", "4711"])
        assert vm.kill9("sleep 4711")
        assert running.wait(60).status == -signal.SIGKILL
        assert not vm.kill9("sleep 4711")

    def test_this_checkout_runs_with_the_pinned_libraries(self, vm: LabVm) -> None:
        result = vm.vmtool("--help")
        assert (result.status, "Usage:" in result.out) == (0, True)
        pinned = vm.sh("python3 -c 'import pydantic, click, pyudev, yaml, jinja2; print(pydantic.VERSION)'")
        assert pinned.startswith("2.")

    def test_a_restore_undoes_memory_and_disk_and_gives_up_what_runs(self, vm: LabVm) -> None:
        running = vm.start(["sleep", "60"])
        vm.put("/etc/changed", b"x")
        bind(vm, GPU)
        vm.restore()
        assert driver(vm, GPU) == ""
        assert vm.sh("ls /etc/changed 2>&1 || :").endswith("No such file or directory")
        before = time.time()
        assert before - 5 < float(vm.sh("date +%s.%N")) < time.time() + 5
        with pytest.raises(Gone):
            running.wait(5)


@pytest.mark.parametrize("hard", [False, True], ids=["orderly", "reset button"])
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_reboot_keeps_the_disk_and_nothing_else(vm: LabVm, hard: bool) -> None:
    bind(vm, "0000:01:00.0")
    vm.put("/etc/kept", b"kept")
    vm.put("/run/lost", b"lost")
    vm.sh("sync")
    before = vm.sh("cat /proc/sys/kernel/random/boot_id")
    vm.reboot(hard=hard)
    assert vm.sh("cat /proc/sys/kernel/random/boot_id") != before
    assert (vm.get("/etc/kept"), vm.run(["test", "-e", "/run/lost"]).status) == (b"kept", 1)
    assert driver(vm, "0000:01:00.0") == "nvidia"
