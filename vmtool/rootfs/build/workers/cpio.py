"""An archive of packages as an initrd: a worker.

The "newc" format (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), compressed with gzip, which every
kernel with an initrd reads. The same archive gives the same bytes.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
from pathlib import Path
from typing import IO

from vmtool.frozen import dataclass
from vmtool.machine import Host

_TYPES = {tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK,
          tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO}


@dataclass(frozen=True)
class Order:
    """The archive, and the new initrd."""

    source: Path
    out: Path


def run(order: Order, host: Host) -> None:
    """Convert."""
    write(order.source, order.out)


def write(source: Path, out: Path) -> None:
    """Convert; a hard link becomes a file of its own, since newc wants all links of a file together."""
    with tarfile.open(source) as archive, out.open("wb") as file, \
            gzip.GzipFile("", "wb", 6, file, mtime=0) as target:
        number = 0
        for number, info in enumerate(archive, 1):
            content = b""
            if info.isreg() or info.islnk():
                opened = archive.extractfile(info)
                content = opened.read() if opened else b""
            elif info.issym():
                content = info.linkname.encode()
            if info.name == ".":
                continue
            kind = stat.S_IFREG if info.islnk() else _TYPES[info.type]
            entry(target, info.name, number, kind | info.mode, info, content)
        if not archive.getnames().count("init"):
            link = tarfile.TarInfo("init")
            entry(target, "init", number + 1, stat.S_IFLNK | 0o777, link, b"/sbin/init")
        entry(target, "TRAILER!!!", 0, 0, tarfile.TarInfo(), b"")


def entry(target: gzip.GzipFile | IO[bytes], name: str, number: int, mode: int, info: tarfile.TarInfo,
          content: bytes) -> None:
    """Write one file; `info` gives owner, time and device numbers, `content` the bytes or a link's target."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, info.uid, info.gid, 1, int(info.mtime), len(content), 0, 0, info.devmajor, info.devminor,
              len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    target.write(head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4))
