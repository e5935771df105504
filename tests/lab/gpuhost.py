"""What the tests of `vmtool gpu` ask of a lab machine."""

from __future__ import annotations

import json
import os
from typing import Any

from tests.lab.vm import LabVm

PCI = "/sys/bus/pci/devices"
SETTINGS = ("driver_override", "power/control", "d3cold_allowed")


def drivers(vm: LabVm, *bdfs: str) -> list[str]:
    """The driver of each device, an empty text for none."""
    lines = vm.sh("; ".join(f"readlink {PCI}/{bdf}/driver || echo" for bdf in bdfs) + "; :")
    return [os.path.basename(line) for line in f"{lines}\n".split("\n")[:len(bdfs)]]


def settings(vm: LabVm, *bdfs: str) -> list[str]:
    """What a bind changes besides the driver: override and power, as the kernel shows them."""
    return vm.sh("; ".join(f"cat {PCI}/{bdf}/{name} 2>&-" for bdf in bdfs for name in SETTINGS) + "; :").splitlines()


def viable(vm: LabVm, bdf: str) -> bool:
    """Whether the kernel would give the device's group to a machine (VFIO_GROUP_GET_STATUS, bit 0)."""
    number = vm.sh(f"basename $(readlink {PCI}/{bdf}/iommu_group)")
    code = ("import fcntl,os;b=bytearray(b'\\x08'+bytes(7));"
            f"fcntl.ioctl(os.open('/dev/vfio/{number}',2),0x3b67,b);print(b[4]&1)")
    return vm.sh(f'python3 -c "{code}"') == "1"


def listed(vm: LabVm, bdf: str) -> dict[str, Any]:
    """A device as `vmtool gpu status --json` has it."""
    result = vm.vmtool("gpu", "status", bdf, "--json")
    assert result.status == 0, result.err
    found: dict[str, Any] = json.loads(result.out)["devices"][0]
    return found
