"""`vmtool gpu bind` and `release` on real kernels: every shape of group, NVIDIA's own driver, eight GPUs, arm64.

A machine of each shape takes long to start, so a quick run has one, with NVIDIA's driver. How the shapes are told apart
is tested on recorded hosts.
"""

from __future__ import annotations

import pytest

from tests.lab import topology
from tests.lab.gpuhost import PCI, drivers, listed, settings, viable
from tests.lab.sysfs import bind
from tests.lab.vm import LabVm

GPU = "0000:00:05.0"
PAIR = ("0000:01:00.0", "0000:02:00.0")
BEHIND_BRIDGE, ITS_NEIGHBOUR = "0000:02:01.0", "0000:02:02.0"


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_alone_in_its_group(vm: LabVm) -> None:
    before = settings(vm, GPU)
    dry = vm.vmtool("gpu", "bind", GPU, "--boot-vga", "--dry-run")
    assert f"echo vfio-pci > {PCI}/{GPU}/driver_override\n" in dry.out
    assert drivers(vm, GPU) == [""], "a dry run changes nothing"
    bound = vm.vmtool("gpu", "bind", GPU, "--boot-vga", "--yes")
    assert (bound.status, drivers(vm, GPU), viable(vm, GPU)) == (0, ["vfio-pci"], True), bound.err
    again = vm.vmtool("gpu", "bind", GPU, "--boot-vga", "--yes")
    assert (again.status, "already bound" in again.err) == (0, True)
    assert listed(vm, GPU)["power_control"] == "on"
    assert listed(vm, GPU)["viable"]["verdict"] == "proven"
    assert "bound, proven" in vm.vmtool("gpu", "list").out
    assert vm.vmtool("gpu", "release", GPU).status == 0
    assert (drivers(vm, GPU), settings(vm, GPU)) == ([""], before)


@pytest.mark.parametrize(("vm", "gpu", "driver"), [
    (topology.NVIDIA_PAIR, PAIR[0], "nvidia"), pytest.param(topology.SOLE, GPU, "", marks=pytest.mark.slow),
], indirect=["vm"], ids=["nvidia", "no driver"])
def test_the_dry_run_typed_into_a_shell_does_the_same(vm: LabVm, gpu: str, driver: str) -> None:
    before = settings(vm, gpu)
    vm.sh(vm.vmtool("gpu", "bind", gpu, *(() if driver else ("--boot-vga",)), "--dry-run").out)
    assert drivers(vm, gpu) == ["vfio-pci"]
    vm.sh(vm.vmtool("gpu", "release", gpu, "--dry-run").out)
    assert (drivers(vm, gpu), settings(vm, gpu)) == ([driver], before)


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_the_display_of_the_boot_wants_its_flag_and_no_terminal_wants_yes(vm: LabVm) -> None:
    refused = vm.vmtool("gpu", "bind", GPU, "--yes")
    assert (refused.status, "--boot-vga" in refused.err) == (2, True)
    unasked = vm.vmtool("gpu", "bind", GPU, "--boot-vga")
    assert (unasked.status, "--yes" in unasked.err) == (2, True)
    assert drivers(vm, GPU) == [""]


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_taken_from_nvidias_driver_and_given_back(vm: LabVm) -> None:
    before = settings(vm, *PAIR)
    assert drivers(vm, *PAIR) == ["nvidia", "nvidia"]
    bound = vm.vmtool("gpu", "bind", "--type", "nvidia-h100", "--yes")
    assert bound.status == 0, bound.err
    assert drivers(vm, *PAIR) == ["vfio-pci", "vfio-pci"]
    assert all(viable(vm, bdf) for bdf in PAIR)
    assert listed(vm, PAIR[0])["came_from"]["driver"] == "nvidia"
    assert vm.vmtool("gpu", "release", "--all").status == 0
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SHARED_BUSY], indirect=True)
def test_a_nic_in_the_group_is_refused_unless_named(vm: LabVm) -> None:
    refused = vm.vmtool("gpu", "bind", BEHIND_BRIDGE, "--boot-vga", "--yes")
    assert (refused.status, ITS_NEIGHBOUR in refused.err, "e1000" in refused.err) == (2, True, True)
    assert drivers(vm, BEHIND_BRIDGE, ITS_NEIGHBOUR) == ["", "e1000"]
    bound = vm.vmtool("gpu", "bind", BEHIND_BRIDGE, "--with", ITS_NEIGHBOUR, "--boot-vga", "--yes")
    assert (bound.status, viable(vm, BEHIND_BRIDGE)) == (0, True), bound.err
    assert vm.vmtool("gpu", "release", BEHIND_BRIDGE).status == 0
    assert drivers(vm, BEHIND_BRIDGE, ITS_NEIGHBOUR) == ["", "e1000"]


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SHARED_BUSY], indirect=True)
def test_the_kernel_is_asked_of_what_somebody_else_bound(vm: LabVm) -> None:
    """By hand, while the neighbour has its driver: VFIO takes it, and no machine would get it."""
    bind(vm, BEHIND_BRIDGE)
    assert (drivers(vm, BEHIND_BRIDGE), viable(vm, BEHIND_BRIDGE)) == (["vfio-pci"], False)
    claim = listed(vm, BEHIND_BRIDGE)["viable"]
    assert claim["verdict"] == "failed", claim
    assert f"{ITS_NEIGHBOUR} has the driver e1000" in claim["evidence"]


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NO_INTREMAP], indirect=True)
def test_the_kernel_refuses_a_domain_without_interrupt_remapping(vm: LabVm) -> None:
    bind(vm, GPU)
    claim = listed(vm, GPU)["viable"]
    assert (claim["verdict"], "(EPERM)" in claim["evidence"]) == ("failed", True), claim


@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_bind_that_no_machine_could_use_is_undone(vm: LabVm) -> None:
    """VFIO's part that makes domains is kept from being loaded: the drivers bind all the same."""
    before = settings(vm, *PAIR)
    vm.sh("modprobe -r vfio_pci vfio_iommu_type1 2>&- || :; mkdir -p /etc/modprobe.d\n"
          "echo 'install vfio_iommu_type1 /bin/true' > /etc/modprobe.d/lab.conf")
    failed = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (failed.status, "no virtual machine could start with it" in failed.err) == (4, True), failed.err
    assert f"{PAIR[0]}: the kernel gives its IOMMU group no domain" in failed.err
    assert (drivers(vm, *PAIR), settings(vm, *PAIR)) == (["nvidia", "nvidia"], before)
    vm.sh("rm /etc/modprobe.d/lab.conf; modprobe vfio_iommu_type1")
    bound = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (bound.status, bound.out.count("bound, proven")) == (0, 2), bound.err


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SHARED_FREE], indirect=True)
def test_a_driverless_neighbour_does_not_stop_the_group(vm: LabVm) -> None:
    bound = vm.vmtool("gpu", "bind", BEHIND_BRIDGE, "--boot-vga", "--yes")
    assert (bound.status, viable(vm, BEHIND_BRIDGE)) == (0, True), bound.err


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.MULTIFUNCTION], indirect=True)
def test_a_nic_of_the_same_card_is_foreign_too(vm: LabVm) -> None:
    nic, gpu = "0000:01:00.0", "0000:01:00.1"
    refused = vm.vmtool("gpu", "bind", gpu, "--boot-vga", "--yes")
    assert (refused.status, nic in refused.err) == (2, True)
    bound = vm.vmtool("gpu", "bind", gpu, "--with", nic, "--boot-vga", "--yes")
    assert (bound.status, drivers(vm, nic, gpu)) == (0, ["vfio-pci"] * 2), bound.err
    assert viable(vm, gpu)


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NO_ACS], indirect=True)
def test_the_bridge_of_a_group_stays_with_the_host(vm: LabVm) -> None:
    bound = vm.vmtool("gpu", "bind", "0000:01:00.0", "--boot-vga", "--yes")
    assert (bound.status, drivers(vm, "0000:00:04.0", "0000:01:00.0")) == (0, ["pcieport", "vfio-pci"]), bound.err
    assert viable(vm, "0000:01:00.0")
    assert vm.vmtool("gpu", "bind", "0000:00:04.0", "--yes").status == 2


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NO_INTREMAP], indirect=True)
def test_without_interrupt_remapping_it_is_told_before_and_not_by_the_launch(vm: LabVm) -> None:
    refused = vm.vmtool("gpu", "bind", GPU, "--boot-vga", "--yes")
    assert (refused.status, "does not remap interrupts" in refused.err) == (3, True)


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.RESETS], indirect=True)
def test_a_device_that_cannot_be_reset_is_told(vm: LabVm) -> None:
    assert listed(vm, GPU)["reset_methods"] == []
    assert listed(vm, "0000:02:00.0")["reset_methods"] == ["bus"]
    assert "reset     none" in vm.vmtool("gpu", "status", GPU).out


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.CARD], indirect=True)
def test_a_card_goes_with_all_four_functions(vm: LabVm) -> None:
    functions = [f"0000:01:00.{number}" for number in range(4)]
    before = drivers(vm, *functions)
    bound = vm.vmtool("gpu", "bind", functions[0], "--yes")
    assert (bound.status, drivers(vm, *functions)) == (0, ["vfio-pci"] * 4), bound.err
    assert vm.vmtool("gpu", "unbind", functions[2]).status == 0
    assert drivers(vm, *functions) == before


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.HGX], indirect=True)
def test_eight_gpus_and_four_switches_in_one_go(vm: LabVm) -> None:
    names = vm.vmtool("gpu", "list", "-o", "name").out.split()
    before = drivers(vm, *names)
    assert len(names) == 12
    bound = vm.vmtool("gpu", "bind", "--all", "--yes")
    assert (bound.status, drivers(vm, *names)) == (0, ["vfio-pci"] * 12), bound.err
    assert vm.vmtool("gpu", "release", "--all").status == 0
    assert drivers(vm, *names) == before


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.ARM64], indirect=True)
def test_arm64_with_an_smmu(vm: LabVm) -> None:
    [gpu] = vm.vmtool("gpu", "list", "-o", "name").out.split()
    bound = vm.vmtool("gpu", "bind", gpu, "--boot-vga", "--yes", deadline=300)
    assert (bound.status, drivers(vm, gpu)) == (0, ["vfio-pci"]), bound.err
    assert viable(vm, gpu)
    assert vm.vmtool("gpu", "release", gpu, deadline=300).status == 0
    assert drivers(vm, gpu) == [""]
