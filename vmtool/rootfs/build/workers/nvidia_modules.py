"""Making NVIDIA's kernel modules for a guest's kernel: a program of vmtool's own, run as a step of a build.

    python -m vmtool.rootfs.build.workers.nvidia_modules VERB ...

    compile TREE BASE.tar OUT DEPMOD...            sources below TREE/usr/src, headers too
    install TREE BASE.tar OUT RUN SOURCE DEPMOD... NVIDIA's .run installer
    take MODULES BASE.tar OUT DEPMOD...            modules that were compiled before

OUT gets driver.tar (modules, and the module index of the guest's kernel) and driver.json (version, kernel). DEPMOD is
how depmod is called. It is run in a mount and process namespace of its own; the compiler and the installer in a chroot.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from vmtool import machine
from vmtool.errors import ProgramFailed, Refused, VmtoolError
from vmtool.host import processes
from vmtool.rootfs.build.store import EPOCH

MODULES = ("nvidia", "nvidia-modeset", "nvidia-drm", "nvidia-uvm", "nvidia-peermem")
PLACE = "updates/dkms"
# The same source gives the same modules: no clock, user and host of the build's.
STEADY = ("KBUILD_BUILD_TIMESTAMP=2025-06-15", "KBUILD_BUILD_USER=vmtool", "KBUILD_BUILD_HOST=vmtool",
          "NV_BUILD_USER=vmtool", "NV_BUILD_HOST=vmtool", f"SOURCE_DATE_EPOCH={EPOCH}")
_COMPILING, _INSTALLING = 3600.0, 3600.0
_ERROR = re.compile(r"(?m)^.*(?:\berror: |\*\*\* |undefined!|No rule to make).*$")


def compile_open(tree: Path) -> list[Path]:
    """Compile the open kernel modules whose source a package brought.

    Raises:
        ProgramFailed: with the compiler's own line first, since that tells whether driver and kernel fit.
    """
    source = _one(sorted(tree.glob("usr/src/nvidia*")), "a package with NVIDIA's source below /usr/src")
    kernel = _one(sorted(each for each in tree.glob("usr/lib/modules/*") if (each / "build").is_symlink()) or
                  sorted(each for each in tree.glob("lib/modules/*") if (each / "build").is_symlink()),
                  "kernel headers").name
    inside = "/" + os.fspath(source.relative_to(tree))
    argv = ("nice", "-n", "10", "chroot", str(tree), "env", "-C", inside, *STEADY, "make", "-s",
            f"-j{os.cpu_count()}", f"KERNEL_UNAME={kernel}", f"SYSSRC=/lib/modules/{kernel}/source",
            f"SYSOUT=/lib/modules/{kernel}/build", "modules")
    result = processes.run(argv, deadline=_COMPILING)
    if result.status:
        raise ProgramFailed(f"{source.name} does not compile for the kernel {kernel}: "
                            f"{_first_error(result.out + result.err)}",
                            hint="choose another release of the driver or of the kernel in the recipe")
    built = [path for name in MODULES for path in sorted(source.rglob(f"{name}.ko"))[:1]]
    return _need(built, f"{inside}: make ended well and left no module")


def install_run(tree: Path, base: Path, run: Path, source: Path) -> list[Path]:
    """Run NVIDIA's installer in the unpacked base, without a question and without touching an initramfs.

    Raises:
        ProgramFailed: with the last error of the installer's log.
    """
    _unpack(base, tree)
    kernel = kernel_of(base)
    shutil.copy(run, tree / "nvidia.run")
    shutil.copytree(source, tree / "usr/src/vmtool-kernel", symlinks=True)
    argv = ("chroot", str(tree), "env", *STEADY, "sh", "/nvidia.run", "--silent", "--ui=none", "--no-questions",
            f"--kernel-name={kernel}", "--kernel-source-path=/usr/src/vmtool-kernel", "--no-nouveau-check",
            "--no-rebuild-initramfs", "--no-x-check", "--no-backup", "--kernel-module-type=open",
            "--log-file-name=/nvidia.log")
    result = processes.run(argv, deadline=_INSTALLING)
    if result.status:
        log = tree / "nvidia.log"
        told = log.read_text(errors="replace") if log.exists() else result.out + result.err
        errors = [line for line in told.splitlines() if "ERROR" in line] or told.splitlines()[-1:]
        raise ProgramFailed(f"{run.name} failed (exit status {result.status}) for the kernel {kernel}: "
                            f"{(errors or ['it said nothing'])[0].strip()}")
    found = [path for root in ("usr/lib/modules", "lib/modules") for path in (tree / root / kernel).rglob("nvidia*.ko")]
    return _need(sorted({path.resolve() for path in found}), f"{run.name} ended well and left no module")


def take(directory: Path) -> list[Path]:
    """Modules that somebody compiled."""
    return _need(sorted(directory.rglob("nvidia*.ko")), f"{directory}: no nvidia*.ko in it")


def pack(modules: Sequence[Path], base: Path, out: Path, depmod: Sequence[str]) -> None:
    """Put the modules beside the guest kernel's own, index them, and write what is new.

    Raises:
        Refused: a module was compiled for another kernel.
    """
    kernel, tree = kernel_of(base), out / "tree"
    tree.mkdir()
    _unpack(base, tree, "--wildcards", "*lib/modules/*")
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
        machine.check(("strip",), processes.run(("strip", "--strip-debug", str(place / module.name)), deadline=60))
        versions.add(version)
    machine.check(("depmod",), processes.run((*depmod, "-b", str(tree), kernel), deadline=120))
    _write(out / "driver.tar", tree / "usr/lib/modules" / kernel)
    shutil.rmtree(tree)
    (out / "driver.json").write_text(json.dumps({"version": max(versions), "kernel": kernel,
                                                 "modules": [module.stem for module in modules]}) + "\n")


def _unpack(archive: Path, tree: Path, *words: str) -> None:
    """tar and not Python's tarfile: owners, device nodes and capabilities are to be the packages' own."""
    argv = ("tar", "--extract", "--numeric-owner", "--xattrs-include=*", f"--file={archive}", f"--directory={tree}",
            *words)
    machine.check(argv, processes.run(argv, deadline=600))


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


def _first_error(output: str) -> str:
    found = _ERROR.search(output)
    return found[0].strip() if found else (output.strip().splitlines() or ["make said nothing"])[-1]


def _one(found: Sequence[Path], what: str) -> Path:
    if len(found) != 1:
        raise Refused(f"the recipe's driver needs {what}, once; found: {', '.join(map(str, found)) or 'none'}")
    return found[0]


def _need(found: list[Path], message: str) -> list[Path]:
    if not found:
        raise Refused(message)
    return found


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    try:
        match list(words):
            case ["compile", tree, base, out, *depmod] if depmod:
                pack(compile_open(Path(tree)), Path(base), Path(out), depmod)
            case ["install", tree, base, out, run, source, *depmod] if depmod:
                pack(install_run(Path(tree), Path(base), Path(run), Path(source)), Path(base), Path(out), depmod)
            case ["take", modules, base, out, *depmod] if depmod:
                pack(take(Path(modules)), Path(base), Path(out), depmod)
            case _:
                sys.exit(__doc__)
    except VmtoolError as error:
        sys.exit("\n".join([*error.details, error.message, error.hint]).strip())


if __name__ == "__main__":
    main(sys.argv[1:])
