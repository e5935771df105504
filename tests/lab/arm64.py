"""The arm64 lab: a kernel with SMMUv3 and a root tree, both unpacked and never run on the host.

Packages are extracted, not configured, so no emulator is registered with the host's kernel. The agent is the guest's
first process: systemd would need the packages' scripts to have run. The kernel is 6.12 (trixie), where a device that
never had a driver has no iommu_group link.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.lab.cache import Part
from tests.lab.images import CHECKOUT, GUEST, make_initramfs, make_root
from tests.lab.mirror import MIRROR
from tests.lab.parts import (
    BOOKWORM,
    KERNEL,
    NO_DOCS,
    NO_RECOMMENDS,
    TREE,
    mmdebstrap,
    requirements,
    run,
    take_kernel,
)

KERNEL_ARGV = ("--variant=extract", "--arch=arm64", "--include=linux-image-arm64,busybox-static", NO_RECOMMENDS,
               "trixie", f"deb {MIRROR} trixie main")
TREE_ARGV = ("--variant=extract", "--arch=arm64", "--include=python3,kmod,pciutils,udev,iproute2,procps,util-linux,"
             "coreutils,dash,bash,sed,grep,tar,findutils,libc-bin,base-files,mount", NO_RECOMMENDS, *NO_DOCS,
             "bookworm", BOOKWORM)
SIZE = "900M"
INIT = (GUEST / "init-arm64").read_text()


def _make_kernel(target: Path, scratch: Path, _inputs: tuple[Path, ...]) -> None:
    tree = scratch / "tree"
    mmdebstrap(tree, scratch, KERNEL_ARGV)
    take_kernel(tree, target)
    shutil.move(next(path for path in (tree / "usr/bin/busybox", tree / "bin/busybox") if path.exists()),
                target / "busybox")


def _make_disk(target: Path, scratch: Path, inputs: tuple[Path, ...]) -> None:
    kernel, host_kernel, host_tree = inputs
    tree = host_tree / "tree"
    version = (kernel / "version").read_text()
    root = scratch / "root"
    mmdebstrap(root, scratch, TREE_ARGV)
    wheels = root / "usr/local/lib/python3.11/dist-packages"
    run((sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(wheels),
         "--platform", "manylinux_2_17_aarch64", "--platform", "manylinux2014_aarch64", "--python-version", "3.11",
         "--only-binary", ":all:", *requirements()), 600)
    (wheels / "vmtool-checkout.pth").write_text(f"{CHECKOUT}\n")
    shutil.copy(GUEST / "agent.py", root / "usr/local/lib/lab-agent.py")
    (root / "sbin/init").unlink(missing_ok=True)
    (root / "sbin/init").write_text(INIT)
    (root / "sbin/init").chmod(0o755)
    for name in ("dev", "proc", "sys", "run", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)
    for name in ("passwd", "group", "nsswitch.conf"):  # which scripts of packages would have written
        shutil.copy(tree / "etc" / name, root / "etc" / name)
    modules = root / "lib/modules" / version
    modules.parent.mkdir(exist_ok=True)
    shutil.copytree(kernel / "modules", modules, symlinks=True)
    # The x86 tree's depmod, by its own loader: it reads modules of any architecture, and the host may have none.
    run((str(tree / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(tree / "usr/lib/x86_64-linux-gnu"),
         "--argv0", "depmod", str(tree / "usr/bin/kmod"), "-b", str(root), version), 120)
    make_initramfs(target / "initramfs", scratch / "initramfs", modules, kernel / "busybox", host_kernel / "busybox")
    make_root(target / "root.img", root, SIZE)


ARM64_KERNEL = Part("kernel-arm64", KERNEL_ARGV, _make_kernel)
ARM64_DISK = Part("disk-arm64", (*TREE_ARGV, SIZE, *requirements(), INIT, (GUEST / "agent.py").read_text(),
                                 (GUEST / "init").read_text()), _make_disk, (ARM64_KERNEL, KERNEL, TREE))
