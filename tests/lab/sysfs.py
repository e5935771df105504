"""What the lab's own tests ask of and do to a machine's PCI devices: plain reads and writes, as a person's."""

from __future__ import annotations

import os

from tests.lab.vm import LabVm

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


def viable(vm: LabVm, bdf: str) -> bool:
    """What the kernel says (VFIO_GROUP_GET_STATUS, bit 0), not what we think."""
    number = vm.sh(f"basename $(readlink {PCI}/{bdf}/iommu_group)")
    code = f"import fcntl,os;b=bytearray(b'\\x08'+bytes(7));f=os.open('/dev/vfio/{number}',2);" \
           "fcntl.ioctl(f,0x3b67,b);print(b[4]&1)"
    return vm.sh(f'python3 -c "{code}"') == "1"
