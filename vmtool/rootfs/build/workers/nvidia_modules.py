"""Making NVIDIA's kernel modules for a guest's kernel: a worker, in a mount and process namespace of its own.

The compiler and NVIDIA's installer run in a chroot.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import ProgramFailed, Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.build.store import EPOCH
from vmtool.rootfs.build.workers.driver_archive import kernel_of, pack, unpack

MODULES = ("nvidia", "nvidia-modeset", "nvidia-drm", "nvidia-uvm", "nvidia-peermem")
# The same source gives the same modules: no clock, user and host of the build's.
STEADY = ("KBUILD_BUILD_TIMESTAMP=2025-06-15", "KBUILD_BUILD_USER=vmtool", "KBUILD_BUILD_HOST=vmtool",
          "NV_BUILD_USER=vmtool", "NV_BUILD_HOST=vmtool", f"SOURCE_DATE_EPOCH={EPOCH}")
_COMPILING, _INSTALLING = 3600.0, 3600.0
_ERROR = re.compile(r"(?m)^.*(?:\berror: |\*\*\* |undefined!|No rule to make).*$")


@dataclass(frozen=True)
class Order:
    """Where the modules come from: `modules` when they were compiled before; `run` and `source`, NVIDIA's .run
    installer and the kernel's source; else what packages brought into `tree`: sources below usr/src, headers too.

    Args:
        base: an archive of the guest, with the kernel's modules.
        out: gets driver.tar (modules, and the module index of the guest's kernel) and driver.json (version, kernel).
        depmod: how it is called.
        tree: a directory; for the installer it is empty.
    """

    base: Path
    out: Path
    depmod: tuple[str, ...]
    tree: Path
    run: Path | None = None
    source: Path | None = None
    modules: Path | None = None


def run(order: Order, host: Host) -> None:
    """Make them.

    Raises:
        Refused: what is needed is not there, or is for another kernel.
        ProgramFailed: compiler or installer failed.
    """
    if order.modules:
        found = take(order.modules)
    elif order.run and order.source:
        found = install_run(host, order.tree, order.base, order.run, order.source)
    else:
        found = compile_open(host, order.tree)
    pack(host, found, order.base, order.out, order.depmod)


def compile_open(host: Host, tree: Path) -> list[Path]:
    """Compile the open kernel modules whose source a package brought.

    Raises:
        ProgramFailed: with the compiler's own line first, since that shows whether driver and kernel fit.
    """
    source = _one(sorted(tree.glob("usr/src/nvidia*")), "a package with NVIDIA's source below /usr/src")
    kernel = _one(sorted(each for each in tree.glob("usr/lib/modules/*") if (each / "build").is_symlink()) or
                  sorted(each for each in tree.glob("lib/modules/*") if (each / "build").is_symlink()),
                  "kernel headers").name
    inside = "/" + os.fspath(source.relative_to(tree))
    argv = ("nice", "-n", "10", "chroot", str(tree), "env", "-C", inside, *STEADY, "make", "-s",
            f"-j{os.cpu_count()}", f"KERNEL_UNAME={kernel}", f"SYSSRC=/lib/modules/{kernel}/source",
            f"SYSOUT=/lib/modules/{kernel}/build", "modules")
    result = host.execute(argv, deadline=_COMPILING)
    if result.status:
        raise ProgramFailed(f"{source.name} does not compile for the kernel {kernel}: "
                            f"{_first_error(result.out + result.err)}",
                            hint="choose another release of the driver or of the kernel in the recipe")
    built = [path for name in MODULES for path in sorted(source.rglob(f"{name}.ko"))[:1]]
    return _need(built, f"{inside}: make ended well and left no module")


def install_run(host: Host, tree: Path, base: Path, installer: Path, source: Path) -> list[Path]:
    """Run NVIDIA's installer in the unpacked base, without a question and without touching an initramfs.

    Raises:
        ProgramFailed: with the last error of the installer's log.
    """
    unpack(host, base, tree)
    kernel = kernel_of(base)
    shutil.copy(installer, tree / "nvidia.run")
    shutil.copytree(source, tree / "usr/src/vmtool-kernel", symlinks=True)
    argv = ("chroot", str(tree), "env", *STEADY, "sh", "/nvidia.run", "--silent", "--ui=none", "--no-questions",
            f"--kernel-name={kernel}", "--kernel-source-path=/usr/src/vmtool-kernel", "--no-nouveau-check",
            "--no-rebuild-initramfs", "--no-x-check", "--no-backup", "--kernel-module-type=open",
            "--log-file-name=/nvidia.log")
    result = host.execute(argv, deadline=_INSTALLING)
    if result.status:
        log = tree / "nvidia.log"
        reported = log.read_text(errors="replace") if log.exists() else result.out + result.err
        errors = [line for line in reported.splitlines() if "ERROR" in line] or reported.splitlines()[-1:]
        raise ProgramFailed(f"{installer.name} failed (exit status {result.status}) for the kernel {kernel}: "
                            f"{(errors or ['it said nothing'])[0].strip()}")
    found = [path for root in ("usr/lib/modules", "lib/modules") for path in (tree / root / kernel).rglob("nvidia*.ko")]
    return _need(sorted({path.resolve() for path in found}), f"{installer.name} ended well and left no module")


def take(directory: Path) -> list[Path]:
    """Modules that somebody compiled."""
    return _need(sorted(directory.rglob("nvidia*.ko")), f"{directory}: no nvidia*.ko in it")


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
