"""What the host lacks for the build of a guest image."""

from __future__ import annotations

from vmtool.findings import Finding, host_lacks, size
from vmtool.rootfs.build.facts import BuildFacts
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.recipe.models import Recipe

# Of the largest: beyond it an image is mostly free space, which takes none.
MOST = 6 << 30


def needed(recipe: Recipe) -> int:
    """Bytes that a build takes in the cache: the packages as a tree and as archives, and the image."""
    return min(MOST, (1 << 30) + 4 * recipe.size)


def check_host(store: Store, recipe: Recipe, facts: BuildFacts) -> list[Finding]:
    """What the host lacks, each with a hint."""
    lacking = [host_lacks("rootfs.program", f"{name} is not installed",
                          f"apt-get install {'util-linux' if name == 'unshare' else name}") for name in facts.missing]
    if facts.foreign:
        lacking.append(host_lacks("rootfs.emulator", f"programs of {recipe.arch} do not run here, and packages' "
                                  "scripts are such programs", "apt-get install qemu-user-static"))
    if facts.free is not None and facts.free < needed(recipe):
        lacking.append(host_lacks("rootfs.space", f"{store.cache.root}: {size(facts.free)} free, "
                                  f"{size(needed(recipe))} are needed",
                                  "make room, or set VMTOOL_CACHE to a larger file system"))
    return lacking
