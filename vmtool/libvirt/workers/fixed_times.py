"""The same files give the same disk: a TEE measures its root hash, and reference values are computed before the start.

mke2fs writes down when each file was last read and changed on this host; nothing in a guest needs that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from vmtool.errors import ProgramFailed
from vmtool.libvirt.verity_table import EPOCH, MAKE_ENV
from vmtool.machine import Host

# ext4's first inode that is a file's; the root directory is 2.
ROOT, FIRST = 2, 11
FIELDS = ("atime", "ctime")


def fix_times(host: Host, disk: Path) -> None:
    """Set these times of every file of an ext4 file system.

    Raises:
        ProgramFailed: e2fsprogs cannot.
    """
    listed = host.execute(("dumpe2fs", str(disk)), deadline=600)
    script = disk.with_suffix(".times")
    try:
        host.write(script, "".join(_commands(listed.out)))
        made = host.execute(("debugfs", "-w", "-f", str(script), str(disk)), deadline=1800, env=MAKE_ENV)
    finally:
        host.remove(script)
    if listed.status or made.status:
        raise ProgramFailed(f"{disk}: its files' times cannot be set: {(listed.err + made.err).strip()[-300:]}")


def _commands(listed: str) -> Iterator[str]:
    """debugfs's, for each inode in use."""
    for inode in _used(listed):
        for field in FIELDS:
            yield f"set_inode_field <{inode}> {field} @{EPOCH:#x}\nset_inode_field <{inode}> {field}_extra 0\n"


def _used(listed: str) -> Iterator[int]:
    count = int((re.search(r"^Inode count:\s+(\d+)$", listed, re.MULTILINE) or ["", "0"])[1])
    free: set[int] = set()
    for line in re.findall(r"^  Free inodes: (.*)$", listed, re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            free.update(range(int(first), int(last or first) + 1))
    yield from (inode for inode in (ROOT, *range(FIRST, count + 1)) if inode not in free)
