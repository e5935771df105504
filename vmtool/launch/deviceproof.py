"""What is claimed about the devices that were passed on, as this host's kernel tells."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.facts.pci import DEVICES
from vmtool.facts.reader import Reader
from vmtool.gpu.driver import is_vfio
from vmtool.launch.claim import Claim
from vmtool.launch.instance import Record


def driver_claims(reader: Reader, record: Record) -> Iterator[Claim]:
    """Each device must be on VFIO, or this host's own driver could use it."""
    if not record.devices:
        return
    drivers = {bdf: (reader.link(f"{DEVICES}/{bdf}/driver") or "").rpartition("/")[2] for bdf in record.devices}
    told = ", ".join(f"{bdf} {driver or 'has no driver'}" for bdf, driver in drivers.items())
    yield Claim("gpu.driver-on-host", "proven" if all(map(is_vfio, drivers.values())) else "failed", told)
