"""The lab's machines are what they claim to be, and the way into them holds when they misbehave."""

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
from tests.lab.channel import Gone
from tests.lab.lab import Lab
from tests.lab.topology import Topology
from tests.lab.vm import DeadlinePassed, LabVm
from vmtool.host.processes import start_time

PCI = "/sys/bus/pci/devices"
BIND = """modprobe vfio-pci
for each in {0}; do echo vfio-pci > {1}/$each/driver_override; done
for each in {0}; do [ ! -e {1}/$each/driver ] || echo $each > {1}/$each/driver/unbind; done
for each in {0}; do echo $each > /sys/bus/pci/drivers_probe; done"""
GIVE_BACK = """echo > {1}/{0}/driver_override
echo {0} > {1}/{0}/driver/unbind
echo {0} > /sys/bus/pci/drivers_probe"""


def driver(vm: LabVm, bdf: str) -> str:
    """The driver's name, or an empty text."""
    return os.path.basename(vm.sh(f"readlink {PCI}/{bdf}/driver || :"))


def group(vm: LabVm, bdf: str) -> list[str]:
    """All members of a device's IOMMU group."""
    return vm.sh(f"ls {PCI}/{bdf}/iommu_group/devices").split()


def class_of(vm: LabVm, bdf: str) -> str:
    """The class as in sysfs, less 0x: six digits."""
    return vm.sh(f"cat {PCI}/{bdf}/class").removeprefix("0x")


def resets(vm: LabVm, bdf: str) -> str:
    """The reset methods, or an empty text."""
    return vm.sh(f"cat {PCI}/{bdf}/reset_method 2>&- || :")


def bind(vm: LabVm, *devices: str) -> None:
    """Bind as a person would, by writes to sysfs."""
    vm.sh(BIND.format(" ".join(devices), PCI))


GPU = "0000:00:05.0"
GROUPS = [
    pytest.param(topology.SOLE, {GPU: ("030000", "")}, id="sole"),
    pytest.param(topology.SHARED_BUSY, {"0000:02:01.0": ("030000", ""), "0000:02:02.0": ("020000", "e1000")},
                 id="shared-busy"),
    pytest.param(topology.SHARED_FREE, {"0000:02:01.0": ("030000", ""), "0000:02:02.0": ("00ff00", "")},
                 id="shared-free"),
    pytest.param(topology.MULTIFUNCTION, {"0000:01:00.0": ("020000", "e1000e"), "0000:01:00.1": ("030000", "")},
                 id="multifunction"),
    pytest.param(topology.NO_ACS, {"0000:00:04.0": ("060400", "pcieport"), "0000:01:00.0": ("030000", "")},
                 id="no-acs"),
    pytest.param(topology.CARD, {"0000:01:00.0": ("030200", ""), "0000:01:00.1": ("040300", ""),
                                 "0000:01:00.2": ("0c0330", ""), "0000:01:00.3": ("0c8000", "")}, id="card"),
]


@pytest.mark.parametrize(("vm", "members"), GROUPS, indirect=["vm"])
def test_a_group_holds_what_it_claims(vm: LabVm, members: dict[str, tuple[str, str]]) -> None:
    first = list(members)[-1]
    assert {each: (class_of(vm, each), driver(vm, each)) for each in group(vm, first)
            if not (each.endswith("00.0") and class_of(vm, each) == "060400" and each not in members)} == members


def viable(vm: LabVm, bdf: str) -> bool:
    """What the kernel says (VFIO_GROUP_GET_STATUS, bit 0), not what we think."""
    number = vm.sh(f"basename $(readlink {PCI}/{bdf}/iommu_group)")
    code = f"import fcntl,os;b=bytearray(b'\\x08'+bytes(7));f=os.open('/dev/vfio/{number}',2);" \
           "fcntl.ioctl(f,0x3b67,b);print(b[4]&1)"
    return vm.sh(f'python3 -c "{code}"') == "1"


@pytest.mark.parametrize(("vm", "gpu", "expected"), [
    (topology.SOLE, GPU, True), (topology.SHARED_FREE, "0000:02:01.0", True),
    (topology.SHARED_BUSY, "0000:02:01.0", False), (topology.NO_ACS, "0000:01:00.0", True),
    (topology.MULTIFUNCTION, "0000:01:00.1", False),
], indirect=["vm"], ids=lambda value: getattr(value, "name", None))
def test_the_kernel_finds_a_group_viable_or_not(vm: LabVm, gpu: str, expected: bool) -> None:
    bind(vm, gpu)
    assert (driver(vm, gpu), viable(vm, gpu)) == ("vfio-pci", expected)


@pytest.mark.parametrize("vm", [topology.RESETS], indirect=True)
def test_resets(vm: LabVm) -> None:
    methods = {each: resets(vm, each) for each in ("0000:01:00.0", "0000:02:00.0", GPU, "0000:00:08.0")}
    assert methods == {"0000:01:00.0": "flr bus", "0000:02:00.0": "bus", GPU: "", "0000:00:08.0": "pm"}


@pytest.mark.parametrize(("vm", "expected"), [(topology.SOLE, 0), (topology.NO_INTREMAP, 1)], indirect=["vm"])
def test_without_interrupt_remapping_a_container_is_refused(vm: LabVm, expected: int) -> None:
    bind(vm, GPU)
    number = vm.sh(f"basename $(readlink {PCI}/{GPU}/iommu_group)")
    result = vm.run(["python3", "-c", "import fcntl,os,struct;c=os.open('/dev/vfio/vfio',2);"
                     f"g=os.open('/dev/vfio/{number}',2);fcntl.ioctl(g,0x3b68,struct.pack('i',c));"
                     "fcntl.ioctl(c,0x3b66,1)"])
    assert result.status == expected
    assert ("Operation not permitted" in result.err) == bool(expected)


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_nvidias_own_driver_is_bound_taken_away_and_given_back(vm: LabVm) -> None:
    gpus = ("0000:01:00.0", "0000:02:00.0")
    assert [driver(vm, each) for each in gpus] == ["nvidia", "nvidia"]
    assert "NVIDIA UNIX Open Kernel Module" in vm.sh("cat /proc/driver/nvidia/version")
    assert "[10de:2330]" in vm.sh("lspci -nns 1:")
    bind(vm, *gpus)
    assert [driver(vm, each) for each in gpus] == ["vfio-pci", "vfio-pci"]
    for each in gpus:
        vm.sh(GIVE_BACK.format(each, PCI))
    assert [driver(vm, each) for each in gpus] == ["nvidia", "nvidia"]


@pytest.mark.parametrize("vm", [topology.H100_PAIR], indirect=True)
def test_h100s_without_a_driver(vm: LabVm) -> None:
    assert [driver(vm, f"0000:0{bus}:00.0") for bus in (1, 2)] == ["", ""]
    assert "flr" in resets(vm, "0000:01:00.0").split()


@pytest.mark.parametrize("vm", [topology.HGX], indirect=True)
def test_eight_gpus_and_four_switches(vm: LabVm) -> None:
    lines = vm.sh(f"for each in {PCI}/*; do [ $(cat $each/vendor) = 0x10de ] && echo $(cat $each/class) "
                  "$(basename $(readlink $each/driver || echo -)) $(ls $each/iommu_group/devices | wc -l); done; :")
    assert sorted(lines.splitlines()) == ["0x030200 nvidia 1"] * 8 + ["0x068000 - 1"] * 4


@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_the_wedge_gives_a_real_d_state_and_the_next_command_runs(vm: LabVm) -> None:
    vm.sh(f"modprobe wedge; echo wedge > {PCI}/{GPU}/driver_override; echo {GPU} > /sys/bus/pci/drivers_probe")
    stuck = vm.start(["sh", "-c", f"echo {GPU} > /sys/bus/pci/drivers/wedge/unbind"], deadline=60)
    end = time.monotonic() + 20
    while "wedge_remove" not in vm.sh(f"cat /proc/{stuck.pid}/stack") and time.monotonic() < end:
        time.sleep(0.1)
    assert vm.sh(f"cut -d' ' -f3 /proc/{stuck.pid}/stat") == "D"
    vm.run(["kill", "-KILL", str(stuck.pid)])
    assert vm.sh(f"cut -d' ' -f3 /proc/{stuck.pid}/stat") == "D"
    vm.sh("echo 0 > /sys/module/wedge/parameters/hold")
    assert stuck.wait(20).status == -signal.SIGKILL


@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_a_command_that_hangs_tells_where(vm: LabVm) -> None:
    vm.sh(f"modprobe wedge; echo wedge > {PCI}/{GPU}/driver_override; echo {GPU} > /sys/bus/pci/drivers_probe")
    with pytest.raises(DeadlinePassed) as caught:
        vm.run(["sh", "-c", f"echo begun; echo {GPU} > /sys/bus/pci/drivers/wedge/unbind"], deadline=2)
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
        assert vm.run(["sh", "-c", "sleep 60 & echo done"], deadline=10).out == "done\n"

    def test_a_deadline_ends_the_whole_group(self, vm: LabVm) -> None:
        with pytest.raises(DeadlinePassed, match="killed"):
            vm.run(["sh", "-c", "sleep 61 & sleep 62"], deadline=1)
        assert vm.run(["pgrep", "-f", "sleep 6[12]"]).status == 1

    def test_kill9(self, vm: LabVm) -> None:
        running = vm.start(["sleep", "4711"])
        assert vm.kill9("sleep 4711")
        assert running.wait(10).status == -signal.SIGKILL
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
        assert abs(float(vm.sh("date +%s.%N")) - time.time()) < 5
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


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.ARM64], indirect=True)
def test_arm64_with_an_smmuv3(vm: LabVm) -> None:
    assert vm.sh("uname -m") == "aarch64"
    assert class_of(vm, GPU) == "030000"
    assert vm.run(["test", "-e", f"{PCI}/{GPU}/iommu_group"]).status == 1      # before its first probe
    bind(vm, GPU)
    assert (driver(vm, GPU), group(vm, GPU)) == ("vfio-pci", [GPU])
    assert "smmu" in vm.sh(f"readlink -f {PCI}/{GPU}/iommu")
    assert vm.vmtool("--help").status == 0
