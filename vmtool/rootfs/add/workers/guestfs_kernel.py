"""The kernel of libguestfs's guest, which supermin makes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import NotReady, shell_word
from vmtool.frozen import dataclass
from vmtool.machine import Host, check


@dataclass(frozen=True)
class GuestKernel:
    """The kernel of the guest.

    Args:
        tree: with boot/vmlinuz-* and its modules; None for the host's own kernel.
        depmod: how it is called.
    """

    tree: Path | None
    depmod: tuple[str, ...]


def prepare(host: Host, guest: GuestKernel) -> None:
    """Make the guest possible."""
    if guest.tree:
        use_kernel(host, guest.tree, guest.depmod)
        give_modules_dir(host)


def use_kernel(host: Host, tree: Path, depmod: Sequence[str]) -> None:
    """Tell supermin (supermin(1), ENVIRONMENT VARIABLES) of an unpacked kernel.

    Raises:
        NotReady: the tree has none.
    """
    releases = sorted(path.name for path in (tree / "usr/lib/modules").glob("*"))
    if not releases or not (tree / "boot" / f"vmlinuz-{releases[-1]}").exists():
        raise NotReady(f"{tree}: no kernel in it", hint=f"rm -r {shell_word(tree)}, then try again")
    release = releases[-1]
    modules = tree / "usr/lib/modules" / release
    if not (modules / "modules.dep").exists():
        if not (tree / "lib").exists():
            (tree / "lib").symlink_to("usr/lib")
        check(depmod, host.execute((*depmod, "-b", str(tree), release), deadline=120))
    os.environ |= {"SUPERMIN_KERNEL": str(tree / "boot" / f"vmlinuz-{release}"), "SUPERMIN_MODULES": str(modules),
                   "SUPERMIN_KERNEL_VERSION": release}


def give_modules_dir(host: Host) -> None:
    """supermin looks at /lib/modules even when it is given a kernel elsewhere; a container has none.

    It is made in this process's own mount namespace, over the host's directory and not in it.
    """
    if os.path.isdir("/lib/modules"):
        return
    place = Path(tempfile.mkdtemp())
    steps = (("mount", "-t", "tmpfs", "tmpfs", str(place)), ("mkdir", str(place / "up"), str(place / "work")),
             ("mount", "-t", "overlay", "overlay", "-o",
              f"lowerdir=/usr/lib,upperdir={place}/up,workdir={place}/work", "/usr/lib"))
    if os.geteuid() or any(host.execute(argv, deadline=30).status for argv in steps):
        raise NotReady("there is no /lib/modules, which supermin looks at", hint="mkdir -p /lib/modules")
    os.makedirs("/lib/modules", exist_ok=True)
