"""What `vmtool gpu bind` costs beside the same writes by hand, by driverctl, by an earlier vmtool: medians of one run.

    .venv/bin/python -m tests.lab.gpubench [ROUNDS [COMMIT]]

With a commit, eight GPUs are bound in turns by that commit's vmtool and by this checkout's, and what the proof of the
bind takes by itself is measured. All times are the guest's own clock around one command, under QEMU's emulation, where
a process costs some fifty times what it costs on hardware: an interpreter that imports click is told beside them.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

from tests.lab.checkout import packed_commit
from tests.lab.lab import prepare
from tests.lab.topology import HGX
from tests.lab.vm import LabVm

GUIDE = """modprobe vfio-pci
for bdf in {0}; do echo vfio-pci > /sys/bus/pci/devices/$bdf/driver_override; done
for bdf in {0}; do echo $bdf > /sys/bus/pci/devices/$bdf/driver/unbind; done
for bdf in {0}; do echo $bdf > /sys/bus/pci/drivers_probe; done"""
BACK = """for bdf in {0}; do echo > /sys/bus/pci/devices/$bdf/driver_override
echo $bdf > /sys/bus/pci/devices/$bdf/driver/unbind; echo $bdf > /sys/bus/pci/drivers_probe; done"""
BEFORE = "/opt/before"
BEFORE_TOOL = "/opt/vmtool-before"
# With a state of its own: it does not read a later version's journals.
TOOL = f"""#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "{BEFORE}")
sys.argv[1:1] = ["--state-dir", "/var/lib/vmtool-before"]
from vmtool.cli.main import main
main()
"""
# The bind's last action, in a process that has imported everything before its clock starts.
PROOF = """import os, sys, time
from pathlib import Path
from vmtool.gpu.workers import prove
from vmtool.host.local import LocalHost
order = prove.Order(tuple('/sys/bus/pci/devices/' + bdf for bdf in sys.argv[1:]), Path('/root/proofs'))
with open(os.devnull, 'w') as log:
    started = time.perf_counter()
    prove.run(order, LocalHost(log))
    print(time.perf_counter() - started)"""


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


def main(rounds: int, commit: str = "") -> None:
    """Print the table."""
    with LabVm(prepare(print), HGX, restored=False) as vm:
        gpus = vm.vmtool("gpu", "list", "-o", "name").out.split()
        gpus = [bdf for bdf in gpus if "nvidia" in vm.sh(f"readlink /sys/bus/pci/devices/{bdf}/driver || :")]
        vm.sh("modprobe vfio-pci disable_idle_d3=1")
        if commit:
            against_commit(vm, gpus[:8], rounds, commit)
        else:
            against_others(vm, gpus, rounds)


def against_commit(vm: LabVm, bdfs: list[str], rounds: int, commit: str) -> None:
    """An earlier vmtool and this one in turns, over the same eight devices."""
    unpack = f"rm -rf {BEFORE} && mkdir -p {BEFORE} && tar -x -C {BEFORE}"
    vm.run(["sh", "-c", unpack], stdin=packed_commit(commit))
    names = " ".join(bdfs)
    vm.put(BEFORE_TOOL, TOOL.encode(), 0o755)
    tools = {"before": BEFORE_TOOL, "now": "vmtool"}
    print(f"before: {commit}", flush=True)
    taken: dict[str, list[float]] = {name: [] for name in (*tools, "list before", "list now", "proof")}
    for _ in range(rounds):
        for name, tool in tools.items():
            taken[f"list {name}"].append(timed(vm, f"{tool} gpu list --json > /dev/null"))
            taken[name].append(timed(vm, f"{tool} gpu bind {names} --yes"))
            if name == "now":
                taken["proof"].append(float(vm.run(["python3", "-c", PROOF, *bdfs], 120).out))
            vm.sh(f"{tool} gpu release {names}", 300)
        print({name: [round(each, 2) for each in times] for name, times in taken.items()}, flush=True)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, seconds in medians.items():
        print(f"{name:12} {seconds:6.2f} s")
    beyond = {name: medians[name] - medians[f"list {name}"] for name in tools}
    print(f"bind of {len(bdfs)}: {medians['now'] - medians['before']:+.2f} s; beyond gpu list --json "
          f"{beyond['now'] - beyond['before']:+.2f} s (wanted +0.5 s); of it the proof {medians['proof']:.2f} s")


def against_others(vm: LabVm, gpus: list[str], rounds: int) -> None:
    """One device and eight, by hand, by driverctl and by vmtool."""
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
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, *sys.argv[2:3])
