"""Installing packages into an image that is there, with what they depend on, by the package manager that built it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from vmtool import plan as p
from vmtool.debian.mmdebstrap import NO_RECOMMENDS, NO_TRANSLATIONS, Bootstrap
from vmtool.rootfs.add.package_facts import Wanted
from vmtool.rootfs.add.plan_rebuild import ImageChange
from vmtool.rootfs.build.debian_base import CLEAN, listing_hooks, sources
from vmtool.rootfs.build.facts import Supply
from vmtool.rootfs.build.rpm_base import install_actions, pack
from vmtool.rootfs.build.store import EPOCH
from vmtool.rootfs.recipe.models import Debian, Rpm


def change_debian(scratch: Path, debian: Debian, arch: str, wanted: Wanted, supply: Supply) -> ImageChange:
    """By apt, from outside of the tree, so that a guest without apt will do."""
    argv = Bootstrap(debian.suite, scratch / "root.tar", "custom", "tar", arch,
                     apt=(NO_RECOMMENDS, NO_TRANSLATIONS, *supply.options), setup=(_unpack_hook(scratch / "old.tar"),),
                     customize=tuple(_hooks(scratch, wanted)), sources=sources(debian, supply.sources),
                     root=supply.root).argv
    env = (*supply.environment, ("INITRD", "No"), ("SOURCE_DATE_EPOCH", str(EPOCH)), ("TMPDIR", str(scratch / "tmp")))
    return ImageChange(f"install {', '.join(each.partition(' ')[2] for each in wanted.reported)}", (
        p.MakeDir(scratch / "tmp", mode=0o755),
        p.Run(argv, env=env, deadline=3600, hint="--component contrib, or --recipe RECIPE, names further sources")),
        (scratch / "root.tar", scratch / "kept.tar"), wanted.reported)


def change_rpm(scratch: Path, rpm: Rpm, arch: str, wanted: Wanted, supply: Supply) -> ImageChange:
    """By dnf, in the unpacked tree."""
    tree = scratch / "tree"
    unpack = ("tar", "--extract", "--numeric-owner", "--xattrs-include=*", f"--file={scratch / 'old.tar'}",
              f"--directory={tree}")
    env = (*supply.environment, ("SOURCE_DATE_EPOCH", str(EPOCH)), ("TMPDIR", str(scratch)))
    return ImageChange(f"install {', '.join(each.partition(' ')[2] for each in wanted.reported)}", (
        p.MakeDir(tree, mode=0o755), p.Run(unpack, deadline=600),
        *install_actions(rpm, arch, (*wanted.names, *map(str, wanted.files)), scratch, scratch / "dnf", env,
                         root=supply.root),
        p.Remove(tree / "var/lib/dnf"), pack(tree, scratch / "root.tar"), p.Remove(tree)),
        (scratch / "root.tar", scratch / "kept.tar"), wanted.reported)


def _unpack_hook(archive: Path) -> str:
    # mmdebstrap has made device nodes already; and its sources, not the guest's, are to be used.
    return (f"tar --extract --numeric-owner --xattrs-include='*' --keep-directory-symlink --exclude=./dev "
            f"--exclude=dev --exclude='etc/apt/sources.list*' --file={shlex.quote(str(archive))} --directory=\"$1\"")


def _hooks(scratch: Path, wanted: Wanted) -> Iterator[str]:
    for number, file in enumerate(wanted.files):
        yield f"upload {shlex.quote(str(file))} /vmtool-{number}.deb"
    words = " ".join([*map(shlex.quote, wanted.names),
                      *(f'"$1"/vmtool-{number}.deb' for number in range(len(wanted.files)))])
    # A package that would take another away is the image builder's decision, not apt's.
    yield ('APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get -o DPkg::Chroot-Directory="$1" --yes --no-remove install '
           f"{words}")
    yield 'rm -f "$1"/vmtool-*.deb'
    yield from listing_hooks(scratch / "packages.txt")
    yield "rm -rf " + " ".join(f'"$1"/{name}' for name in CLEAN if name.startswith("etc/apt/"))
