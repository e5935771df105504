"""A disk image that its reader can check against a root hash: a worker.

dm-verity's hash tree is appended to the disk, whose own part is what it was.
"""

from __future__ import annotations

import re
from pathlib import Path

from vmtool.errors import ProgramFailed, VmtoolError
from vmtool.frozen import dataclass
from vmtool.libvirt.verity_table import table_line
from vmtool.libvirt.workers.fixed_times import fix_times
from vmtool.machine import Host
from vmtool.rootfs.format.hash_tree import BLOCK


@dataclass(frozen=True)
class Order:
    """The disk, and the file that receives device-mapper's line for it (Linux,
    Documentation/admin-guide/device-mapper/verity.rst), with the word DISK where the device is to stand."""

    disk: Path
    table: Path


def run(order: Order, host: Host) -> None:
    """Do it."""
    host.write(order.table, f"{append_hash_tree(host, order.disk)}\n", mode=0o644)


def append_hash_tree(host: Host, disk: Path) -> str:
    """Append the hash tree, to a file system of which the same files make the same bytes.

    Returns:
        The table's line.

    Raises:
        VmtoolError: it failed.
    """
    size = disk.stat().st_size
    if not size or size % BLOCK:
        raise VmtoolError(f"{disk} has {size} bytes, which is not a multiple of the block size ({BLOCK})")
    fix_times(host, disk)
    # No salt: it would only make it harder to prepare other blocks with the same hashes, which nobody can with SHA-256.
    argv = ("veritysetup", "format", "--no-superblock", "--hash=sha256", "--salt=-", f"--data-block-size={BLOCK}",
            f"--hash-block-size={BLOCK}", f"--data-blocks={size // BLOCK}", f"--hash-offset={size}", *[str(disk)] * 2)
    result = host.execute(argv, deadline=3600)
    found = re.search(r"^Root hash:\s*([0-9a-f]{64})$", result.out, re.MULTILINE)
    if result.status or not found:
        raise ProgramFailed(f"veritysetup: {result.err.strip()[-300:] or 'no root hash'}")
    return table_line("DISK", "DISK", size // BLOCK, size // BLOCK, found[1], "-")
