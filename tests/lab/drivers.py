"""Kernel modules compiled for the lab's kernel: NVIDIA's open driver, and our own that wedges an unbind.

Bookworm's nvidia-open-kernel-dkms is unpacked, not installed, in a tree with the headers of the very kernel that the
lab boots, and compiled in a chroot there. Its modules keep Debian's names (nvidia-current-open.ko), as operators see.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from tests.lab.cache import LabError, Part
from tests.lab.parts import BOOKWORM, KERNEL, NO_DOCS, NO_RECOMMENDS, mmdebstrap, run

WEDGE = Path(__file__).with_name("guest") / "wedge.c"
# Downloaded without its dependencies: the firmware is 60 MB, and no fake GPU could run it.
FETCH = ('--customize-hook=cd "$1/root" && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -q '
         'nvidia-open-kernel-dkms && dpkg -x nvidia-open-kernel-dkms_*.deb "$1"')
ARGV = ("--variant=minbase", "--include=make,linux-headers-VERSION", FETCH, NO_RECOMMENDS, *NO_DOCS,
        "bookworm", BOOKWORM)
MODULES = ("nvidia", "nvidia-modeset", "nvidia-drm", "nvidia-uvm")
# Stable kernels after 6.1.176 have a fourth argument, which 535.261.03 does not know.
RESIZE = "pci_resize_resource(pci_dev, NV_GPU_BAR1, requested_size)"


def _make_drivers(target: Path, scratch: Path, inputs: tuple[Path, ...]) -> None:
    version = (inputs[0] / "version").read_text()
    tree = scratch / "tree"
    mmdebstrap(tree, scratch, tuple(each.replace("VERSION", version) for each in ARGV))
    source = next(tree.glob("usr/src/nvidia-current-open-*"))
    _fit(source / "nvidia/nv-pci.c", tree)
    _compile(tree, source, version, "modules", f"KERNEL_UNAME={version}")
    wedge = tree / "usr/src/wedge"
    wedge.mkdir()
    shutil.copy(WEDGE, wedge)
    (wedge / "Kbuild").write_text("obj-m := wedge.o\n")
    _compile(tree, wedge, version, "-C", f"/lib/modules/{version}/build", "M=/usr/src/wedge", "modules")
    for name in MODULES:
        built = source / f"{name}.ko"
        run(("chroot", str(tree), "strip", "--strip-debug", f"/{built.relative_to(tree)}"), 60)
        shutil.copy(built, target / built.name.replace("nvidia", "nvidia-current-open", 1))
    shutil.copy(wedge / "wedge.ko", target)
    (target / "nvidia-version").write_text(source.name.rpartition("-")[2])


def _fit(file: Path, tree: Path) -> None:
    header = next(tree.glob("usr/src/linux-headers-*-common/include/linux/pci.h")).read_text()
    declared = re.search(r"pci_resize_resource\(([^)]*)\)", header)
    if declared and declared[1].count(",") == 3:
        file.write_text(file.read_text().replace(RESIZE, f"{RESIZE[:-1]}, 0)"))


def _compile(tree: Path, source: Path, version: str, *arguments: str) -> None:
    kernel = (f"SYSSRC=/lib/modules/{version}/source", f"SYSOUT=/lib/modules/{version}/build")
    inside = "/" + os.fspath(source.relative_to(tree))
    run(("nice", "-n", "10", "unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", str(tree),
         "env", "-C", inside, "make", "-s", f"-j{os.cpu_count()}", *kernel, *arguments), 1500)
    if not list(source.glob("*.ko")):
        raise LabError(f"{inside}: make ended well and left no module")


DRIVERS = Part("drivers", (*ARGV, WEDGE.read_text(), *MODULES), _make_drivers, (KERNEL,))
