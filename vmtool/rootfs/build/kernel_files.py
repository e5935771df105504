"""A guest's kernel that comes as files, and not as a package."""

from __future__ import annotations

import re
from pathlib import Path

from vmtool import plan as p
from vmtool.errors import Refused
from vmtool.rootfs.build.store import EPOCH
from vmtool.rootfs.recipe.models import Recipe

_RELEASE = re.compile(r"[\w.+-]+")


def plan_kernel(recipe: Recipe, modules: Path | None, tar: Path) -> tuple[p.Action, ...]:
    """Put a kernel that came as files into the archive: its modules, and the image as a package would have it.

    Args:
        modules: their directory, by its real name.

    Raises:
        Refused: the modules' directory has no name of a release.
    """
    kernel = recipe.kernel
    if kernel is None or kernel.image is None:
        return ()
    append = ("tar", "--append", "--format=posix", "--sort=name", f"--mtime=@{EPOCH}", "--owner=0", "--group=0",
              "--numeric-owner", f"--file={tar}")
    release = modules.name if modules else "unknown"
    if not _RELEASE.fullmatch(release):
        raise Refused(f"{kernel.modules}: must be a directory named by the kernel's release, such as 6.6.0-1.aarch64")
    actions = [p.Run((*append, f"--directory={kernel.image.parent}", f"--transform=s,.*,boot/vmlinuz-{release},",
                      kernel.image.name), deadline=120)]
    if modules:
        actions.append(p.Run((*append, f"--directory={modules.parent}",
                              "--transform=flags=rh;s,^,usr/lib/modules/,", release), deadline=600))
    return tuple(actions)
