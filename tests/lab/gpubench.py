"""What `vmtool gpu bind` costs beside the same writes by hand and by driverctl: medians of one machine, one run.

    .venv/bin/python -m tests.lab.gpubench [ROUNDS]

All times are the guest's own clock around one command, under QEMU's emulation, where a process costs some fifty times
what it costs on hardware: "beyond" is what vmtool takes beyond the start of an interpreter that imports click.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

from tests.lab.lab import prepare
from tests.lab.topology import HGX
from tests.lab.vm import LabVm

GUIDE = """modprobe vfio-pci
for bdf in {0}; do echo vfio-pci > /sys/bus/pci/devices/$bdf/driver_override; done
for bdf in {0}; do echo $bdf > /sys/bus/pci/devices/$bdf/driver/unbind; done
for bdf in {0}; do echo $bdf > /sys/bus/pci/drivers_probe; done"""
BACK = """for bdf in {0}; do echo > /sys/bus/pci/devices/$bdf/driver_override
echo $bdf > /sys/bus/pci/devices/$bdf/driver/unbind; echo $bdf > /sys/bus/pci/drivers_probe; done"""


def timed(vm: LabVm, script: str) -> float:
    """Seconds by the guest's clock, to the hundredth of a second of /proc/uptime."""
    out = vm.sh(f"read a b < /proc/uptime\n{script} >&2\nread c d < /proc/uptime\necho $a $c", 300).split()
    return float(out[-1]) - float(out[-2])


def ways(vm: LabVm, bdfs: list[str]) -> dict[str, tuple[Callable[[], float], str]]:
    """name -> how to bind, and the shell lines that give back."""
    names = " ".join(bdfs)
    return {
        "shell": (lambda: timed(vm, GUIDE.format(names)), BACK.format(names)),
        "driverctl": (lambda: timed(vm, f"for bdf in {names}; do driverctl --nosave set-override $bdf vfio-pci; done"),
                      f"for bdf in {names}; do driverctl --nosave unset-override $bdf; done"),
        "vmtool": (lambda: timed(vm, f"vmtool gpu bind {names} --yes"), f"vmtool gpu release {names}"),
    }


def main(rounds: int) -> None:
    """Print the table."""
    with LabVm(prepare(print), HGX) as vm:
        gpus = vm.vmtool("gpu", "list", "-o", "name").out.split()
        gpus = [bdf for bdf in gpus if "nvidia" in vm.sh(f"readlink /sys/bus/pci/devices/{bdf}/driver || :")]
        vm.sh("modprobe vfio-pci disable_idle_d3=1")
        medians: dict[tuple[str, int], float] = {}
        for count in (1, 8):
            made = ways(vm, gpus[:count])
            taken: dict[str, list[float]] = {name: [] for name in made}
            for _ in range(rounds):
                for name, (bind, back) in made.items():
                    taken[name].append(bind())
                    vm.sh(back, 300)
            medians |= {(name, count): statistics.median(times) for name, times in taken.items()}
        click = statistics.median(timed(vm, "python3 -c 'import click'") for _ in range(rounds))
        listing = statistics.median(timed(vm, "vmtool gpu list --json > /dev/null") for _ in range(rounds))
        for (name, count), seconds in medians.items():
            print(f"bind {count} by {name:10} {seconds:6.2f} s")
        print(f"vmtool: 8 against 1    {medians['vmtool', 8] / medians['vmtool', 1]:6.2f}")
        print(f"import click           {click:6.2f} s; gpu list --json {listing:.2f} s, {listing / click:.2f} of it")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
