"""The lab's machines are what they claim to be: groups, classes, drivers, viability, resets."""

from __future__ import annotations

import pytest

from tests.lab import topology
from tests.lab.sysfs import GIVE_BACK, PCI, bind, class_of, driver, group, resets, viable
from tests.lab.vm import LabVm

# The lab itself; the tests of vmtool's commands there would tell that it is broken, without saying where.
pytestmark = pytest.mark.slow
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


@pytest.mark.parametrize("vm", [topology.ARM64], indirect=True)
def test_arm64_with_an_smmuv3(vm: LabVm) -> None:
    assert vm.sh("uname -m") == "aarch64"
    assert class_of(vm, GPU) == "030000"
    assert vm.run(["test", "-e", f"{PCI}/{GPU}/iommu_group"]).status == 1      # before its first probe
    bind(vm, GPU)
    assert (driver(vm, GPU), group(vm, GPU)) == ("vfio-pci", [GPU])
    assert "smmu" in vm.sh(f"readlink -f {PCI}/{GPU}/iommu")
    assert vm.vmtool("--help").status == 0
