"""The initramfs of a guest that vmtool boots itself, made from the image's own modules: a worker."""

from __future__ import annotations

import re
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host, check
from vmtool.rootfs.build.workers import cpio
from vmtool.rootfs.inspect.tree import ImageTree, tree_at

# What stands between the initramfs and the root file system; what the kernel has built in is no module.
WANTED = {"ext4": ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4"),
          "erofs": ("virtio_pci", "virtio_blk", "erofs")}
LARGEST = 32 << 20
MODULES, PROGRAMS = "modules", "programs"


@dataclass(frozen=True)
class Order:
    """What it is made of.

    Args:
        holds, start: the file system of the image's root, and the byte where it begins.
        directory: what is in it goes into the archive's root; its file `modules` names further modules to insert, a
            line each, its file `programs` programs of this machine that come along with their libraries.
        reader: how debugfs or dump.erofs is called.
    """

    image: Path
    holds: str
    start: int
    busybox: Path
    directory: Path
    out: Path
    reader: tuple[str, ...]


def read(host: Host, tree: ImageTree, path: str) -> bytes:
    """At most 32 MiB of a file in the image; nothing when it is absent."""
    argv = tree.cat(path)
    if not argv:
        return b""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "file"
        host.execute(argv, deadline=60, stdout=out)
        return host.read(out)[:LARGEST]


def choose(index: str, wanted: Sequence[str]) -> list[str]:
    """The files of the wanted modules and of what they depend on, each after its dependencies (modules.dep)."""
    lines = dict(line.split(":", 1) for line in index.splitlines() if ":" in line)
    places = {re.sub(r"\.ko.*", "", path.rpartition("/")[2]).replace("-", "_"): path for path in lines}
    found: list[str] = []
    for name in wanted:
        path = places.get(name)
        if path:
            # A module's own dependencies stand in the order in which modprobe would remove them.
            found += [each for each in (*reversed(lines[path].split()), path) if each not in found]
    return found


def programs(host: Host, directory: Path) -> dict[str, bytes]:
    """Place to content of the wanted programs and of every library that the loader would give them."""
    wanted = directory / PROGRAMS
    found: dict[str, bytes] = {}
    for program in wanted.read_text().split() if wanted.exists() else ():
        result = host.execute(("ldd", program), deadline=60)
        check(("ldd", program), result)
        libraries = re.findall(r"^\t(?:\S+ => )?(/\S+) \(", result.out, re.MULTILINE)
        found |= {path.lstrip("/"): Path(path).read_bytes() for path in (program, *libraries)}
    return found


def run(order: Order, host: Host) -> None:
    """Write the archive.

    Raises:
        Refused: the image's root is of a file system that is not read here.
    """
    if order.holds not in WANTED:
        raise Refused(f"{order.image} holds {order.holds}, not {' or '.join(WANTED)}")
    tree = tree_at(host, order.reader, order.holds, order.image, order.start)
    make(host, tree, order.holds, order.busybox, order.directory, order.out)


def make(host: Host, tree: ImageTree, holds: str, busybox: Path, directory: Path, out: Path) -> None:
    """Write the archive."""
    kernels = tree.names("/usr/lib/modules") or tree.names("/lib/modules")
    root = f"/usr/lib/modules/{kernels[0]}" if kernels else ""
    index = read(host, tree, f"{root}/modules.dep").decode(errors="replace") if root else ""
    names = directory / MODULES
    further = names.read_text().split() if names.exists() else []
    modules = choose(index, (*WANTED[holds], *further))
    brought = programs(host, directory)
    directories = {"bin", "dev", "modules", "proc", "root", "run", "sys"}
    directories |= {str(parent) for name in brought for parent in Path(name).parents if str(parent) != "."}
    entries: list[tuple[str, int, bytes]] = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(directories)]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in sorted(brought.items())]
    entries += [("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
                ("load", stat.S_IFREG | 0o644, "".join(f"{path.rpartition('/')[2]}\n" for path in modules).encode())]
    entries += [(path.name, stat.S_IFREG | (0o755 if path.name == "init" else 0o644), path.read_bytes())
                for path in sorted(directory.iterdir()) if path.name not in (MODULES, PROGRAMS, out.name)]
    entries += [(f"modules/{path.rpartition('/')[2]}", stat.S_IFREG | 0o644, read(host, tree, f"{root}/{path}"))
                for path in modules]
    with out.open("wb") as file:
        for number, (name, mode, content) in enumerate(entries, 1):
            cpio.entry(file, name, number, mode, tarfile.TarInfo(name), content)
        cpio.entry(file, "TRAILER!!!", 0, 0, tarfile.TarInfo(), b"")
