"""What goes wrong on real machines: holders, a driver that refuses, an unbind that hangs for good, SIGKILL."""

from __future__ import annotations

import signal
import time

import pytest

from tests.integration.kills import KILLED as KILLER
from tests.lab import topology
from tests.lab.gpuhost import PCI, drivers, settings
from tests.lab.vm import LabVm

PAIR = ("0000:01:00.0", "0000:02:00.0")
CONTROL_NODE = "[ -e /dev/nvidiactl ] || mknod -m 666 /dev/nvidiactl c 195 255"
HOLD = "import os,time; os.open('/dev/nvidiactl', os.O_RDWR); print('open', flush=True); time.sleep(10**6)"
# NVIDIA's daemon in the form that counts: a unit of its name with a process that has the driver's node open.
UNIT = f"""[Service]
ExecStart=/usr/bin/python3 -c "{HOLD}"
"""
KILLED = "/root/killed.py"
BIND = ("gpu", "bind", "--all", "--yes")


def wedge(vm: LabVm, bdf: str) -> None:
    """Give the device to the driver whose remove callback waits for ever."""
    vm.sh(f"modprobe wedge; echo {bdf} > {PCI}/{bdf}/driver/unbind; echo wedge > {PCI}/{bdf}/driver_override; "
          f"echo {bdf} > /sys/bus/pci/drivers_probe")
    assert drivers(vm, bdf) == ["wedge"]


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_process_with_the_driver_open_is_named_and_nothing_is_touched(vm: LabVm) -> None:
    vm.sh(CONTROL_NODE)
    holder = vm.start(["python3", "-c", HOLD])
    _until(vm, f"ls -l /proc/{holder.pid}/fd | grep -q nvidiactl")
    refused = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert refused.status == 3
    assert f"{PAIR[0]} is used by python3 (pid {holder.pid}), which has /dev/nvidiactl open" in refused.err
    assert drivers(vm, *PAIR) == ["nvidia", "nvidia"]
    vm.sh(f"kill -9 {holder.pid}")
    bound = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (bound.status, drivers(vm, *PAIR)) == (0, ["vfio-pci"] * 2), bound.err


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_known_service_is_stopped_and_started_again_also_after_a_failure(vm: LabVm) -> None:
    vm.sh(CONTROL_NODE)
    vm.put("/etc/systemd/system/nvidia-persistenced.service", UNIT.encode())
    vm.sh("systemctl daemon-reload; systemctl start nvidia-persistenced")
    pid = _serving(vm)
    refused = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (refused.status, "systemctl stop nvidia-persistenced.service" in refused.err) == (3, True)
    wedge(vm, PAIR[1])
    failed = vm.vmtool("gpu", "bind", "--all", "--yes", "--stop-services", "--deadline", "10")
    assert failed.status == 1, failed.err
    assert drivers(vm, PAIR[0]) == ["nvidia"]
    assert _serving(vm) != pid
    bound = vm.vmtool("gpu", "bind", PAIR[0], "--yes", "--stop-services")
    assert (bound.status, drivers(vm, PAIR[0])) == (0, ["vfio-pci"]), bound.err
    assert _serving(vm)


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_an_unbind_that_hangs_ends_the_command_and_not_the_machine(vm: LabVm) -> None:
    wedge(vm, PAIR[1])
    failed = vm.vmtool("gpu", "bind", "--all", "--yes", "--deadline", "10")
    assert failed.status == 1
    assert f"{PAIR[1]}: hangs in the kernel" in failed.err
    assert "State:\tD (disk sleep)" in failed.err
    assert "wedge_remove" in failed.err, "the kernel's stack is told"
    assert drivers(vm, PAIR[0]) == ["nvidia"], "the other is back"
    again = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (again.status, f"{PAIR[1]} hung in the kernel since this boot" in again.err) == (3, True)
    assert "wedge_remove" in vm.vmtool("gpu", "status", PAIR[1]).out
    other = vm.vmtool("gpu", "bind", PAIR[0], "--yes")
    assert (other.status, drivers(vm, PAIR[0])) == (0, ["vfio-pci"]), other.err
    vm.sh("echo 0 > /sys/module/wedge/parameters/hold")


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_probe_that_fails_in_silence_takes_all_back(vm: LabVm) -> None:
    before = settings(vm, *PAIR)
    # The probe finds no driver and says nothing: modprobe is told to load none.
    vm.sh("mkdir -p /etc/modprobe.d; echo 'install vfio-pci /bin/true' > /etc/modprobe.d/lab.conf")
    failed = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (failed.status, "did not bind as asked" in failed.err) == (4, True), failed.err
    assert f"{PAIR[0]} has no driver, not vfio-pci" in failed.err
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)


def killed(vm: LabVm, moment: str, record: str) -> None:
    """Run the bind and kill it before or after the first record whose line has this text."""
    vm.put(KILLED, KILLER.read_bytes())
    died = vm.run(["python3", KILLED, "SIGKILL", moment, record, *BIND], 120)
    assert died.status == -signal.SIGKILL, died.err


# The record, and whose the devices are then: an action is killed between its record `begin` and its doing. In a quick
# run only where a device has no driver; every point is gone through on the fake machine.
@pytest.mark.timing
@pytest.mark.parametrize(("record", "bound"), [
    ("drivers_probe", ""),
    *(pytest.param(record, bound, marks=pytest.mark.slow) for record, bound in (
        ("step note the drivers", "nvidia"), ("step load vfio-pci", "nvidia"), ("echo vfio-pci > ", "nvidia"),
        ("driver/unbind", "nvidia"), ("readlink", "vfio-pci")))])
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_after_sigkill_recover_puts_everything_back(vm: LabVm, record: str, bound: str) -> None:
    before = settings(vm, *PAIR)
    killed(vm, "after", record)
    assert drivers(vm, *PAIR) == [bound] * 2
    blocked = vm.vmtool(*BIND)
    assert (blocked.status, "vmtool recover" in blocked.err) == (3, True), blocked.err
    recovered = vm.vmtool("recover")
    assert recovered.status == 0, recovered.err
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)
    assert "nothing to recover" in vm.vmtool("recover").err
    assert vm.sh("ls /var/lib/vmtool/gpu/devices 2>&- || :") == ""


@pytest.mark.slow
@pytest.mark.timing
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_kill_after_the_last_record_finds_the_devices_bound(vm: LabVm) -> None:
    """Before it, all goes back."""
    before = settings(vm, *PAIR)
    killed(vm, "before", "applied")
    assert vm.vmtool("recover").status == 0
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)
    killed(vm, "after", "applied")
    assert "nothing to recover" in vm.vmtool("recover").err
    assert drivers(vm, *PAIR) == ["vfio-pci", "vfio-pci"]
    assert vm.vmtool("gpu", "release", "--all").status == 0
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)


def _until(vm: LabVm, condition: str, deadline: float = 120.0) -> None:
    end = time.monotonic() + deadline
    while vm.run(["sh", "-c", condition]).status:
        assert time.monotonic() < end, condition
        time.sleep(0.2)


def _serving(vm: LabVm) -> str:
    """The pid of the service, once it has the node open."""
    pid = "$(systemctl show -p MainPID --value nvidia-persistenced)"
    _until(vm, f"ls -l /proc/{pid}/fd | grep -q nvidiactl")
    return vm.sh(f"echo {pid}")
