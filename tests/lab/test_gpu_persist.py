"""`--persist` over a real reboot, with NVIDIA's own driver on the other side."""

from __future__ import annotations

import pytest

from tests.lab import topology
from tests.lab.gpuhost import drivers, listed
from tests.lab.vm import LabVm

PAIR = ("0000:01:00.0", "0000:02:00.0")


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_a_persistent_bind_holds_over_a_reboot_until_it_is_released(vm: LabVm) -> None:
    bound = vm.vmtool("gpu", "bind", PAIR[0], "--persist", "--yes")
    assert bound.status == 0, bound.err
    assert "not checked: whether the initramfs" in bound.err, "this guest has no lsinitramfs"
    vm.reboot()
    assert drivers(vm, *PAIR) == ["vfio-pci", "nvidia"]
    assert vm.sh("systemctl is-active vmtool-gpu.service") == "active"
    assert not vm.sh("dmesg | grep -i 'nvidia.*0000:01:00.0' || :"), "NVIDIA's driver never saw it"
    assert listed(vm, PAIR[0])["persisted"]
    released = vm.vmtool("gpu", "release", PAIR[0])
    assert (released.status, drivers(vm, *PAIR)) == (0, ["nvidia", "nvidia"]), released.err
    assert vm.sh("ls /etc/vmtool /etc/systemd/system/vmtool-gpu.service 2>&1 || :").count("No such file") == 1
    vm.reboot()
    assert drivers(vm, *PAIR) == ["nvidia", "nvidia"]


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.NVIDIA_PAIR], indirect=True)
def test_what_another_driver_took_first_is_taken_from_it(vm: LabVm) -> None:
    """As when the initramfs brings the driver: the unit comes later, and unbinds."""
    assert vm.vmtool("gpu", "bind", "--all", "--persist", "--yes").status == 0
    assert vm.vmtool("gpu", "status", "--json").status == 0
    for bdf in PAIR:
        vm.sh(f"echo > /sys/bus/pci/devices/{bdf}/driver_override; echo {bdf} > /sys/bus/pci/drivers/vfio-pci/unbind; "
              f"echo {bdf} > /sys/bus/pci/drivers/nvidia/bind")
    assert drivers(vm, *PAIR) == ["nvidia", "nvidia"]
    vm.sh("systemctl restart vmtool-gpu.service")
    assert drivers(vm, *PAIR) == ["vfio-pci", "vfio-pci"]
