"""Kernel modules of a driver as an archive that is laid over the guest's, with the index of all its modules."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import Refused
from vmtool.machine import Host, check
from vmtool.rootfs.build.store import EPOCH

PLACE = "updates/dkms"


def pack(host: Host, modules: Sequence[Path], base: Path, out: Path, depmod: Sequence[str]) -> None:
    """Put the modules beside the guest kernel's own, index them, and write what is new.

    Raises:
        Refused: a module was compiled for another kernel.
    """
    kernel, tree = kernel_of(base), out / "tree"
    tree.mkdir()
    unpack(host, base, tree, "--wildcards", "*lib/modules/*")
    if not (tree / "usr/lib").exists():
        (tree / "usr").mkdir()
        shutil.move(tree / "lib", tree / "usr/lib")
    if not (tree / "lib").exists():
        (tree / "lib").symlink_to("usr/lib")
    place = tree / "usr/lib/modules" / kernel / PLACE
    place.mkdir(parents=True)
    versions = set()
    for module in modules:
        vermagic, version = modinfo(module)
        if vermagic.partition(" ")[0] != kernel:
            built = vermagic.partition(" ")[0] or "an unknown kernel"
            raise Refused(f"{module.name} was compiled for {built}, and the image's kernel is {kernel}")
        shutil.copy(module, place)
        check(("strip",), host.execute(("strip", "--strip-debug", str(place / module.name)), deadline=60))
        versions.add(version)
    check(("depmod",), host.execute((*depmod, "-b", str(tree), kernel), deadline=120))
    _write(out / "driver.tar", tree / "usr/lib/modules" / kernel)
    shutil.rmtree(tree)
    (out / "driver.json").write_text(json.dumps({"version": max(versions), "kernel": kernel,
                                                 "modules": [module.stem for module in modules]}) + "\n")


def unpack(host: Host, archive: Path, tree: Path, *words: str) -> None:
    """tar and not Python's tarfile: owners, device nodes and capabilities are to be the packages' own."""
    argv = ("tar", "--extract", "--numeric-owner", "--xattrs-include=*", f"--file={archive}", f"--directory={tree}",
            *words)
    check(argv, host.execute(argv, deadline=600))


def modinfo(module: Path) -> tuple[str, str]:
    """vermagic and version (Linux, include/linux/module.h: NAME=VALUE texts in the section .modinfo)."""
    data = module.read_bytes()
    found = [re.search(rb"\0" + name + rb"=([^\0]{1,200})\0", data) for name in (b"vermagic", b"version")]
    vermagic, version = (match[1].decode(errors="replace") if match else "" for match in found)
    return vermagic, version


def kernel_of(base: Path) -> str:
    """The kernel release that the base has modules for.

    Raises:
        Refused: there is none, or more than one.
    """
    with tarfile.open(base) as archive:
        found = {match[1] for each in archive if (match := re.match(r"(?:\./)?(?:usr/)?lib/modules/([^/]+)$",
                                                                   each.name.rstrip("/")))}
    if len(found) != 1:
        raise Refused(f"the image has modules of {len(found)} kernels ({', '.join(sorted(found)) or 'none'}), and a "
                      "driver is compiled for one")
    return found.pop()


def _write(target: Path, modules: Path) -> None:
    """The driver's modules and the index of all, as an archive that says the same each time."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime, info.uid, info.gid, info.uname, info.gname = EPOCH, 0, 0, "", ""
        info.mode = 0o755 if info.isdir() else 0o644
        return info

    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted((*modules.glob("modules.*"), *(modules / PLACE).glob("*.ko"))):
            name = f"usr/lib/modules/{modules.name}/{path.relative_to(modules)}"
            archive.add(path, name, filter=plain)
