"""What happens to devices at boot: which are bound again, and which drivers the initramfs would bind before that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vmtool.machine import Reader

# A file for each device that is bound at every boot.
DIRECTORY = Path("/etc/vmtool/gpu.d")


def read_persisted(reader: Reader) -> frozenset[str]:
    """The devices that are bound again at every boot."""
    return frozenset(reader.names(str(DIRECTORY)))


def initramfs_drivers(reader: Reader, release: str, drivers: Iterable[str]) -> tuple[str, ...] | None:
    """Those of the drivers that the initramfs of the running kernel brings: it would bind before the unit runs.

    Returns:
        None when no program here can look into it.
    """
    wanted = {driver.replace("-", "_") for driver in drivers if driver}
    for argv in (("lsinitramfs", f"/boot/initrd.img-{release}"), ("lsinitrd", f"/boot/initramfs-{release}.img")):
        output = reader.run(argv, 60.0) if reader.which(argv[0]) else None
        if output and output.status == 0:
            names = {line.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
                     for line in output.out.splitlines() if ".ko" in line}
            # NVIDIA's packages rename their module: nvidia-current, nvidia-current-open.
            return tuple(sorted({name for name in names if any(name == driver or name.startswith(f"{driver}_current")
                                                               for driver in wanted)}))
    return None
