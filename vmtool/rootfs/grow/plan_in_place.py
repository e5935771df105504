"""Growing an image in its place: one program does it, and its way back lies beside the image until it is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.rootfs.build.replace_files import PYTHON
from vmtool.rootfs.format.image_file import Extent, ImageFile
from vmtool.rootfs.format.layout import Geometry

if TYPE_CHECKING:
    from vmtool.rootfs.metadata.manifest import VerityPart


def plan_growth(directory: Path, image: ImageFile, geometry: Geometry, verity: VerityPart | None, papers: Path | None,
                tools: Tools) -> p.Step:
    """Grow file system, label and hashes.

    Args:
        directory: of the journal.
        verity: of the hashes that are there; None when there are none.
        papers: the manifest to follow; None when there is none. The new one lies beside the image.
    """
    path, order = image.path, directory / "growth.json"
    device = f"{path}?offset={geometry.start}" if geometry.start else str(path)
    rootfs, hashes = image.rootfs or Extent(0, image.size), image.hashes or Extent(0, 0)
    old = Geometry(geometry.kind, image.size, rootfs.start, rootfs.size, hashes.start, hashes.size)
    told = {"root_hash": verity.root_hash, "salt": verity.salt, "data_blocks": verity.data_blocks} if verity else None
    given = {"old": old.to_json(), "new": geometry.to_json(), "verity": told, "manifest": str(papers or ""),
             "resize2fs": tools.argv("resize2fs"), "e2fsck": tools.argv("e2fsck", "-fn", device)}
    return p.Step("grow the image in its place", (
        p.WriteFile(order, json.dumps(given) + "\n"),
        p.Run((*PYTHON, "vmtool.rootfs.grow.workers.grow_in_place", str(path), str(order)), deadline=7200),
    ), undo=plan_back(path), waits_only=True)


def plan_back(image: Path) -> tuple[p.Action, ...]:
    """Bring an image back whose growth was interrupted."""
    return (p.Run((*PYTHON, "vmtool.rootfs.grow.workers.roll_back", str(image)), deadline=3600),)
