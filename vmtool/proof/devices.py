"""What is claimed about the devices that were passed on, and about what outlived a guest, as this host shows."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.claims import Claim
from vmtool.facts.qemu_processes import read_qemu
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.proof import VIABLE
from vmtool.gpu.saved_state import read_proofs
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.gpu.workers import vfio_in_use
from vmtool.instance.instance import InstanceRecord
from vmtool.machine import Reader
from vmtool.paths import State


def driver_claims(reader: Reader, record: InstanceRecord) -> Iterator[Claim]:
    """Each device must be on VFIO, or this host's own driver could use it."""
    if not record.devices:
        return
    drivers = {bdf: (reader.link(f"{DEVICES}/{bdf}/driver") or "").rpartition("/")[2] for bdf in record.devices}
    reported = ", ".join(f"{bdf} {driver or 'has no driver'}" for bdf, driver in drivers.items())
    yield Claim("gpu.driver-on-host", "proven" if all(map(is_vfio, drivers.values())) else "failed", reported)


def viable_claims(reader: Reader, record: InstanceRecord, state: State) -> Iterator[Claim]:
    """What the kernel said when the devices were bound for the launch, before the guest had them open."""
    if not record.devices:
        return
    known = read_proofs(reader, state)
    lacking = [bdf for bdf in record.devices if bdf not in known]
    yield Claim(VIABLE, "not-checked" if lacking else "proven",
                f"not proven since the last boot: {', '.join(lacking)}" if lacking else
                "; ".join(f"{bdf}: {known[bdf]}" for bdf in record.devices))


def left_claims(reader: Reader, record: InstanceRecord, name: str) -> Iterator[Claim]:
    """What a guest that ended must not have left: a QEMU, and devices that are open still.

    Args:
        name: that its QEMU was started with.
    """
    found = read_qemu(reader, name)
    yield Claim("vm.gone", "failed" if found else "proven",
                f"QEMU (pid {found[0].pid}) still runs: vmtool rm {record.name} ends it" if found else
                f"no QEMU is named {name}")
    if record.devices:
        directories = tuple(f"{DEVICES}/{bdf}" for bdf in record.devices)
        reported = reader.run(p.question(vfio_in_use.Order(directories)), deadline=30.0)
        if reported is None or reported.status:
            yield Claim("gpu.free", "not-checked", "it could not be looked at")
        elif reported.out.strip():
            yield Claim("gpu.free", "failed", "; ".join(reported.out.splitlines()))
        else:
            yield Claim("gpu.free", "proven", f"{', '.join(record.devices)}: nobody has it open; vmtool rm "
                                              f"{record.name} gives it back")


def task_claim(reader: Reader, record: InstanceRecord) -> Claim:
    """Whether containerd still knows the container as running. It forgets one whose shim died, which QEMU survives."""
    reported = reader.run(record.endpoint.ctr("task", "list"), deadline=5.0)
    if reported is None or reported.status:
        return Claim("task.running", "not-checked", "containerd did not answer")
    row = next((line.split() for line in reported.out.splitlines()[1:] if line.split()[:1] == [record.unit]), [])
    if row[2:3] == ["RUNNING"]:
        return Claim("task.running", "proven", f"containerd: {' '.join(row)}")
    return Claim("task.running", "failed", f"containerd knows no running task {record.name}: its shim is gone, and "
                 f"only vmtool rm {record.name} ends what runs")
