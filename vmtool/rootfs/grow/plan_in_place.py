"""Growing an image in its place: one program does it, and its undo is next to the image until it is done."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.rootfs.format.hash_tree import Verity
from vmtool.rootfs.format.image_file import Extent, ImageFile
from vmtool.rootfs.format.layout import Geometry
from vmtool.rootfs.grow.workers import grow_in_place, roll_back

if TYPE_CHECKING:
    from vmtool.rootfs.metadata.manifest import VerityPart


def plan_growth(image: ImageFile, geometry: Geometry, verity: VerityPart | None, manifest_file: Path | None,
                tools: Tools) -> p.Step:
    """Grow file system, label and hashes.

    Args:
        verity: of the hashes that are there; None when there are none.
        manifest_file: the manifest to follow; None when there is none. The new one is next to the image.
    """
    path = image.path
    device = f"{path}?offset={geometry.start}" if geometry.start else str(path)
    rootfs, hashes = image.rootfs or Extent(0, image.size), image.hashes or Extent(0, 0)
    old = Geometry(geometry.kind, image.size, rootfs.start, rootfs.size, hashes.start, hashes.size)
    order = grow_in_place.Order(
        path, old, geometry, Verity(verity.root_hash, verity.salt, verity.data_blocks) if verity else None,
        manifest_file, tools.argv("resize2fs"), tools.argv("e2fsck", "-fn", device))
    return p.Step("grow the image in its place", (p.run_worker(order, deadline=7200),), undo=plan_back(path),
                  waits_only=True)


def plan_back(image: Path) -> tuple[p.Action, ...]:
    """Undo a growth of the image that was interrupted."""
    return (p.run_worker(roll_back.Order(image), deadline=3600),)
