"""The initramfs of a guest that vmtool boots itself, made from the image's own modules: a program of vmtool's own.

    python -m vmtool.rootfs.boot.workers.make_initramfs IMAGE (ext4|erofs) START BUSYBOX DIRECTORY OUT READER...
    python -m vmtool.rootfs.boot.workers.make_initramfs add IMAGE BUSYBOX DIRECTORY OUT

What lies in DIRECTORY goes into the archive's root; its file `modules` names further modules to insert, a line each,
its file `programs` programs of this machine that come along with their libraries.
READER is how debugfs or dump.erofs is called. `add` is for an IMAGE that is an initrd: the kernel unpacks archives that
follow each other into one tree (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), so a second one is
appended to a copy, with all in the directory /vmtool.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from vmtool.host.local import LocalMachine
from vmtool.rootfs.build.workers import cpio
from vmtool.rootfs.inspect.tree import ImageTree, tree_at

# What stands between the initramfs and the root file system; what the kernel has built in is no module.
WANTED = {"ext4": ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4"),
          "erofs": ("virtio_pci", "virtio_blk", "erofs")}
LARGEST = 32 << 20
MODULES, PROGRAMS = "modules", "programs"
ADDED = "vmtool"


def read(tree: ImageTree, path: str) -> bytes:
    """At most 32 MiB of a file in the image; nothing when it is absent."""
    argv = tree.cat(path)
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).stdout[:LARGEST] if argv else b""


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


def programs(directory: Path) -> dict[str, bytes]:
    """Place to content of the wanted programs and of every library that the loader would give them."""
    wanted = directory / PROGRAMS
    found: dict[str, bytes] = {}
    for program in wanted.read_text().split() if wanted.exists() else ():
        told = subprocess.run(("ldd", program), capture_output=True, timeout=60, check=True).stdout.decode()
        libraries = re.findall(r"^\t(?:\S+ => )?(/\S+) \(", told, re.MULTILINE)
        found |= {path.lstrip("/"): Path(path).read_bytes() for path in (program, *libraries)}
    return found


def make(tree: ImageTree, holds: str, busybox: Path, directory: Path, out: Path) -> None:
    """Write the archive."""
    kernels = tree.names("/usr/lib/modules") or tree.names("/lib/modules")
    root = f"/usr/lib/modules/{kernels[0]}" if kernels else ""
    index = read(tree, f"{root}/modules.dep").decode(errors="replace") if root else ""
    names = directory / MODULES
    further = names.read_text().split() if names.exists() else []
    modules = choose(index, (*WANTED[holds], *further))
    brought = programs(directory)
    directories = {"bin", "dev", "modules", "proc", "root", "run", "sys"}
    directories |= {str(parent) for name in brought for parent in Path(name).parents if str(parent) != "."}
    entries: list[tuple[str, int, bytes]] = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(directories)]
    entries += [(name, stat.S_IFREG | 0o755, content) for name, content in sorted(brought.items())]
    entries += [("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()),
                ("load", stat.S_IFREG | 0o644, "".join(f"{path.rpartition('/')[2]}\n" for path in modules).encode())]
    entries += [(path.name, stat.S_IFREG | (0o755 if path.name == "init" else 0o644), path.read_bytes())
                for path in sorted(directory.iterdir()) if path.name not in (MODULES, PROGRAMS, out.name)]
    entries += [(f"modules/{path.rpartition('/')[2]}", stat.S_IFREG | 0o644, read(tree, f"{root}/{path}"))
                for path in modules]
    with out.open("wb") as file:
        for number, (name, mode, content) in enumerate(entries, 1):
            cpio.entry(file, name, number, mode, tarfile.TarInfo(name), content)
        cpio.entry(file, "TRAILER!!!", 0, 0, tarfile.TarInfo(), b"")


def add(image: Path, busybox: Path, directory: Path, out: Path) -> None:
    """Write a copy of the initrd with an archive behind it."""
    files = [path for path in sorted(directory.iterdir()) if path.name != out.name]
    with out.open("wb") as file:
        with image.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
        file.write(bytes(-file.tell() % 4))
        cpio.entry(file, ADDED, 1, stat.S_IFDIR | 0o755, tarfile.TarInfo(ADDED), b"")
        for number, path in enumerate([busybox, *files], 2):
            name = f"{ADDED}/{'busybox' if path == busybox else path.name}"
            mode = stat.S_IFREG | (0o755 if path.name in ("busybox", "init") else 0o644)
            cpio.entry(file, name, number, mode, tarfile.TarInfo(name), path.read_bytes())
        cpio.entry(file, "TRAILER!!!", 0, 0, tarfile.TarInfo(), b"")


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) == 5 and words[0] == "add":
        add(*map(Path, words[1:]))
        return
    if len(words) < 7 or words[1] not in WANTED:
        sys.exit(__doc__)
    tree = tree_at(LocalMachine(), words[6:], words[1], Path(words[0]), int(words[2]))
    make(tree, words[1], Path(words[3]), Path(words[4]), Path(words[5]))


if __name__ == "__main__":
    main(sys.argv[1:])
