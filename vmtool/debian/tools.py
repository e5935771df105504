"""The file-system tools of one known Debian release: unpacked into the cache, never installed, run by their own loader.

Bookworm's mke2fs does not give the same bytes twice and takes no archive; 1.47.2 of trixie does both. Where nothing is
built, the host's own tools will do.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from vmtool import plan as p
from vmtool.architecture import AMD64, BY_MACHINE
from vmtool.cache import Cache
from vmtool.debian.mmdebstrap import NO_RECOMMENDS, NO_TRANSLATIONS, Bootstrap
from vmtool.errors import NotReady
from vmtool.facts.cpu import read_is_root
from vmtool.frozen import dataclass
from vmtool.machine import Reader

SUITE = "trixie"
PACKAGES = ("busybox-static", "e2fsprogs", "erofs-utils", "kmod", "libarchive13t64")
_PROGRAMS = {"mkfs.erofs": "erofs-utils", "dump.erofs": "erofs-utils", "fsck.erofs": "erofs-utils",
             "depmod": "kmod", "modinfo": "kmod"}
_PLACES = {"mkfs.erofs": "usr/bin", "dump.erofs": "usr/bin", "fsck.erofs": "usr/bin", "busybox": "usr/bin"}


@dataclass(frozen=True)
class Tools:
    """Where the tools are; `root` is the unpacked tree, None for the host's own."""

    root: Path | None
    machine: str = AMD64.machine

    def argv(self, program: str, *words: str | Path) -> tuple[str, ...]:
        """How the program is called."""
        if not self.root:
            return (program, *map(str, words))
        host = BY_MACHINE[self.machine]
        library = self.root / "usr/lib" / host.triplet
        return (str(library / host.loader), "--library-path", str(library),
                str(self.root / _PLACES.get(program, "usr/sbin") / program), *map(str, words))


def tools_dir(cache: Cache, packages: tuple[str, ...] = PACKAGES, arch: str = "") -> Path:
    """Where the unpacked tree of some packages is, or will be; `arch` as Debian names it, when not the host's."""
    words = (SUITE, platform.machine(), *packages, *([arch] if arch else []))
    return cache.root / "rootfs" / "tools" / hashlib.sha256(" ".join(words).encode()).hexdigest()[:12]


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


@dataclass(frozen=True)
class Unpacked:
    """Packages of Debian's that are unpacked in the cache, or will be.

    Args:
        place: where.
        arch: as Debian names it; empty for the host's.
        there: whether they are there.
        root: vmtool runs as root.
    """

    place: Path
    packages: tuple[str, ...]
    arch: str
    existing: bool
    root: bool


def read_unpacked(reader: Reader, cache: Cache, packages: tuple[str, ...] = PACKAGES, arch: str = "") -> Unpacked:
    """Look for them in the cache.

    Raises:
        NotReady: an ordinary user cannot have the ids that packages need.
    """
    root, place = read_is_root(reader), tools_dir(cache, packages, arch)
    if not root and not reader.which("newuidmap"):
        raise NotReady("newuidmap: no such program; with it packages get ids of their own without root",
                       hint="apt-get install uidmap, or become root")
    return Unpacked(place, packages, arch, reader.exists(str(place)), root)


def plan_tools(found: Unpacked, cache: Cache, options: tuple[str, ...], environment: p.Pairs, *,
               what: str = "the file-system tools") -> p.Step:
    """Unpack packages, once for all builds.

    Args:
        options: apt's, such as the host's proxy.
        what: that it is, for a person.
    """
    title, place = f"unpack {what} of Debian {SUITE}", found.place
    if found.existing:
        return p.Step(title, skip="in the cache", waits_only=True)
    scratch = cache.root / "rootfs" / "scratch" / f"tools-{place.name}"
    argv = Bootstrap(SUITE, scratch / "tree", "extract", "directory", found.arch, found.packages,
                     apt=(NO_RECOMMENDS, NO_TRANSLATIONS, *options), root=found.root).argv
    return p.Step(title, (
        p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(place.parent, mode=0o755),
        p.Run(argv, env=(*environment, ("TMPDIR", str(scratch))), deadline=1200),
        p.Run(("mv", "--no-target-directory", str(scratch / "tree"), str(place))), p.Remove(scratch),
    ), undo=(p.Remove(scratch),), waits_only=True)
