"""The file-system tools of one known Debian release: unpacked into the cache, never installed, run by their own loader.

Bookworm's mke2fs does not give the same bytes twice and takes no archive; 1.47.2 of trixie does both. Where nothing is
built, the host's own tools will do.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from vmtool import plan as p
from vmtool.errors import NotReady
from vmtool.facts.reader import Reader
from vmtool.image.cache import Cache

SUITE = "trixie"
PACKAGES = ("busybox-static", "e2fsprogs", "erofs-utils", "kmod", "libarchive13t64")
LOADERS = {"x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"),
           "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1")}
# What has /proc, a mount and a process of its own: whatever ends it, nothing of it is left.
PRIVATE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_PROGRAMS = {"mkfs.erofs": "erofs-utils", "dump.erofs": "erofs-utils", "fsck.erofs": "erofs-utils",
             "depmod": "kmod", "modinfo": "kmod"}
_PLACES = {"mkfs.erofs": "usr/bin", "dump.erofs": "usr/bin", "fsck.erofs": "usr/bin", "busybox": "usr/bin"}


@dataclass(frozen=True)
class Tools:
    """Where the tools are; `root` is the unpacked tree, None for the host's own."""

    root: Path | None
    machine: str = "x86_64"

    def argv(self, program: str, *words: str | Path) -> tuple[str, ...]:
        """How the program is called."""
        if not self.root:
            return (program, *map(str, words))
        triplet, loader = LOADERS[self.machine]
        library = self.root / "usr/lib" / triplet
        return (str(library / loader), "--library-path", str(library),
                str(self.root / _PLACES.get(program, "usr/sbin") / program), *map(str, words))


def tools_dir(cache: Cache) -> Path:
    """Where the unpacked tree is, or will be."""
    digest = hashlib.sha256(" ".join((SUITE, platform.machine(), *PACKAGES)).encode()).hexdigest()
    return cache.root / "rootfs" / "tools" / digest[:12]


def read_tools(reader: Reader, cache: Cache, *needed: str) -> Tools:
    """The tree in the cache, or the host's tools when it has all that is needed.

    Raises:
        NotReady: neither is there.
    """
    own = tools_dir(cache)
    if reader.exists(str(own)):
        return Tools(own, platform.machine())
    if missing := [name for name in needed if not reader.which(name)]:
        packages = sorted({_PROGRAMS.get(name, "e2fsprogs") for name in missing})
        raise NotReady(f"{', '.join(missing)}: no such program", hint=f"apt-get install {' '.join(packages)}")
    return Tools(None)


def plan_tools(reader: Reader, cache: Cache, options: tuple[str, ...], environment: p.Pairs) -> p.Step:
    """Unpack them, once for all builds.

    Args:
        options: apt's, such as the host's proxy.
    """
    title, place = f"unpack the file-system tools of Debian {SUITE}", tools_dir(cache)
    if reader.exists(str(place)):
        return p.Step(title, skip="they are in the cache", waits=True)
    scratch = cache.scratch("rootfs-tools")
    argv = (*PRIVATE, "mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--format=directory",
            f"--include={','.join(PACKAGES)}", *(f"--aptopt={line}" for line in options), SUITE, str(scratch / "tree"))
    return p.Step(title, (
        p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(place.parent, mode=0o755),
        p.Run(argv, env=(*environment, ("TMPDIR", str(scratch))), deadline=900),
        p.Run(("mv", "--no-target-directory", str(scratch / "tree"), str(place))), p.Remove(scratch),
    ), undo=(p.Remove(scratch),), waits=True)
