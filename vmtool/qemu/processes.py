"""What else the kernel shows of a QEMU: the devices that it has open, and the files that it was given."""

from __future__ import annotations

import posixpath

from vmtool.machine import Reader

NODES = "/dev/vfio/devices/"


def opened_devices(reader: Reader, pid: int) -> tuple[str, ...]:
    """The PCI addresses of the VFIO devices whose own nodes a process has open: libvirt gives QEMU a device by its
    descriptor, so that the arguments do not show which."""
    links = (reader.link(f"/proc/{pid}/fd/{number}") or "" for number in reader.names(f"/proc/{pid}/fd"))
    names = {link.removeprefix(NODES) for link in links if link.startswith(NODES)}
    ways = [(reader.link(f"/sys/class/vfio-dev/{name}") or "").split("/") for name in sorted(names)]
    return tuple(way[-3] for way in ways if len(way) > 2)


def real_path(reader: Reader, path: str) -> str:
    """The path without symbolic links, as Kata hands files to QEMU and the kernel shows programs; at most 40 links."""
    done, left, links = "/", [part for part in path.split("/") if part not in ("", ".")], 0
    while left:
        part = left.pop(0)
        target = None if part == ".." else reader.link(posixpath.join(done, part))
        if target is None or links == 40:
            done = posixpath.normpath(posixpath.join(done, part))
            continue
        links += 1
        done = "/" if target.startswith("/") else done
        left = [piece for piece in target.split("/") if piece not in ("", ".")] + left
    return done
