"""What the lab takes from Debian: a QEMU that can be served devices over a socket, kernels, and a root tree.

Nothing is installed on the host. mmdebstrap runs in a process and mount namespace of its own, so that whatever ends
it, no mount and no process of it is left.
"""

from __future__ import annotations

import configparser
import shutil
import sys
from pathlib import Path

from tests.lab.cache import LabError, Part
from tests.lab.mirror import MIRROR, located
from vmtool.errors import VmtoolError
from vmtool.host import processes
from vmtool.machine import check

# The release suite alone: its kernel changes with point releases only, and NVIDIA's module is built against it.
BOOKWORM = f"deb {MIRROR} bookworm main contrib"
NO_DOCS = tuple(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale", "info", "lintian"))
NO_RECOMMENDS = '--aptopt=APT::Install-Recommends "false"'
# The testing suite's Release file can be past its validity date.
STALE_IS_FINE = '--aptopt=Acquire::Check-Valid-Until "false"'

QEMU_ARGV = ("--variant=extract", "--include=qemu-system-x86,qemu-system-arm,qemu-utils", NO_RECOMMENDS, STALE_IS_FINE,
             "testing", f"deb {MIRROR} testing main")
KERNEL_ARGV = ("--variant=extract", "--include=linux-image-amd64,busybox-static", NO_RECOMMENDS, "bookworm", BOOKWORM)
TREE_PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "python3", "kmod", "pciutils", "iproute2", "procps",
                 "driverctl", "psmisc", "busybox-static")
SETUP_CFG = Path(__file__).parents[2] / "setup.cfg"


def run(argv: tuple[str, ...], deadline: float) -> str:
    """Run a program of the build to its end and give its output; LabError with its last lines when it fails."""
    try:
        result = processes.run(argv, deadline=deadline)
        check(argv, result)
    except VmtoolError as error:
        # apt and mmdebstrap mark with E: what matters, and say more after it
        lines = sorted(error.details, key=lambda line: not line.startswith("E:"))
        raise LabError("\n".join([*lines[:6], error.message])) from None
    return result.out


def mmdebstrap(tree: Path, scratch: Path, argv: tuple[str, ...], deadline: float = 900) -> None:
    """Make a Debian tree: `argv` is mmdebstrap's options, then the suite and the mirrors."""
    if not processes.which("mmdebstrap"):
        raise LabError("mmdebstrap is not installed: scripts/setup --test")
    words = located(argv)
    options = [each for each in words if each.startswith("--")]
    suite, *mirrors = [each for each in words if not each.startswith("--")]
    run(("nice", "-n", "10", "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
         "env", f"TMPDIR={scratch}", "mmdebstrap", "--mode=root", "--format=directory", *options, suite,
         str(tree), *mirrors), deadline)


def _make_qemu(target: Path, scratch: Path, _inputs: tuple[Path, ...]) -> None:
    tree = scratch / "tree"
    mmdebstrap(tree, scratch, QEMU_ARGV)
    library = tree / "usr/lib/x86_64-linux-gnu"
    (target / "bin").mkdir()
    for name in ("qemu-system-x86_64", "qemu-system-aarch64", "qemu-img"):
        shutil.move(tree / "usr/bin" / name, target / "bin" / name)
    for unneeded in ("perl", "perl-base", "gconv", "systemd", "dri"):
        shutil.rmtree(library / unneeded, ignore_errors=True)
    shutil.move(library, target / "lib")
    for name in ("qemu", "seabios", "ipxe"):
        if (tree / "usr/share" / name).exists():
            shutil.move(tree / "usr/share" / name, target / name)


def _make_kernel(target: Path, scratch: Path, _inputs: tuple[Path, ...]) -> None:
    tree = scratch / "tree"
    mmdebstrap(tree, scratch, KERNEL_ARGV)
    take_kernel(tree, target)
    shutil.move(tree / "bin/busybox", target / "busybox")


def take_kernel(tree: Path, target: Path) -> None:
    """Move the kernel and its modules out of an extracted tree, less what no lab machine can have."""
    shutil.move(next(tree.glob("boot/vmlinuz-*")), target / "vmlinuz")
    shutil.move(next(tree.glob("boot/config-*")), target / "config")
    modules = next(path for path in (*tree.glob("lib/modules/*"), *tree.glob("usr/lib/modules/*")))
    (target / "version").write_text(modules.name)
    shutil.move(modules, target / "modules")
    drivers = target / "modules/kernel/drivers"
    for name in ("gpu/drm/amd", "gpu/drm/nouveau", "gpu/drm/radeon", "gpu/drm/i915", "net/wireless", "media", "staging",
                 "infiniband", "scsi", "iio", "hwmon", "hid", "comedi", "mtd", "isdn", "bluetooth"):
        shutil.rmtree(drivers / name, ignore_errors=True)
    shutil.rmtree(target / "modules/kernel/sound", ignore_errors=True)


def tree(name: str, packages: tuple[str, ...]) -> Part:
    """A root tree with these packages and with what vmtool itself takes from PyPI."""
    argv = ("--variant=minbase", f"--include={','.join(packages)}", NO_RECOMMENDS, *NO_DOCS, "bookworm", BOOKWORM)

    def make(target: Path, scratch: Path, _inputs: tuple[Path, ...]) -> None:
        root = target / "tree"
        mmdebstrap(root, scratch, argv)
        wheels = root / "usr/local/lib/python3.11/dist-packages"
        run((sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-warn-script-location",
             "--target", str(wheels), *requirements()), 600)
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/bash-completion", "dev"):
            shutil.rmtree(root / unneeded, ignore_errors=True)
        (root / "dev").mkdir()

    return Part(name, (*argv, *requirements()), make)


def requirements() -> tuple[str, ...]:
    """What `vmtool` itself needs from PyPI: the guest gets the very same versions."""
    config = configparser.ConfigParser()
    config.read(SETUP_CFG)
    lines = config["options"]["install_requires"].split()
    extras = config["options.extras_require"].get("gpu", "").split()
    return tuple(line for line in (*lines, *extras) if not line.startswith("nvidia"))


QEMU = Part("qemu", QEMU_ARGV, _make_qemu)
KERNEL = Part("kernel", KERNEL_ARGV, _make_kernel)
TREE = tree("tree", TREE_PACKAGES)
