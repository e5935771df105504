"""Growing a copy of an image, for file systems that cannot grow in their place: it is repaired, and blocks may move."""

from __future__ import annotations

import shlex
from pathlib import Path

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.rootfs.build.workers import extract, insert_filesystem, run_e2fsck, write_headers
from vmtool.rootfs.format.image_file import Extent, ImageFile
from vmtool.rootfs.format.layout import Geometry


def plan_filesystem(image: ImageFile, geometry: Geometry, tools: Tools, file: Path, why: str) -> p.Step:
    """Grow a copy of the file system; `why` it is a copy is in the step's title."""
    rootfs = image.rootfs or Extent(0, image.size)
    if image.kind == "bare":
        copy: p.Action = p.Run(("cp", "--reflink=auto", "--preserve=all", str(image.path), str(file)),
                     deadline=3600)
    else:
        copy = p.run_worker(extract.Order(image.path, rootfs.start, rootfs.size, file), deadline=3600)
    place = shlex.quote(f"{image.path}?offset={rootfs.start}" if rootfs.start else str(image.path))
    repair = f"the image is as it was; repair it by hand, then try again: e2fsck -f {place}"
    check = p.run_worker(run_e2fsck.Order(tools.argv("e2fsck", "-fp", file), repair), deadline=3600)
    return p.Step(f"grow a copy of the file system: {why}", (
        p.Remove(file), copy, check,
        p.Run(tools.argv("resize2fs", file, f"{geometry.size // 1024}K"), deadline=3600, hint=repair),
        p.Run(("truncate", f"--size={geometry.size}", str(file))),
        p.Run(tools.argv("e2fsck", "-fn", file), deadline=3600, hint=_hint(place)),
    ), undo=(p.Remove(file),), waits_only=True)


def _hint(place: str) -> str:
    """Of a file system beyond 32 GiB that resize2fs left with errors: its orphan_file is where that happens (LibreELEC
    issue 8099). Only the copy was grown."""
    return ("the image is as it was; resize2fs can damage the orphan_file of a file system that grows beyond 32 GiB. "
            f"Remove that feature, then try again: tune2fs -O ^orphan_file {place} && e2fsck -fp {place}")


def plan_disk(image: ImageFile, geometry: Geometry, piece: Path, new: Path, verity: Path, salt: str) -> p.Step:
    """Put the file system into a new image, with its label and its hashes, whose values go to the file `verity`."""
    return p.Step("put the image together", (
        p.Remove(new), p.Remove(verity),
        p.Run(("cp", "--attributes-only", "--preserve=all", str(image.path), str(new))),
        p.Run(("truncate", f"--size={geometry.total}", str(new))),
        p.run_worker(insert_filesystem.Order(piece, new, geometry.start), deadline=3600),
        p.run_worker(write_headers.Order(new, geometry, salt, verity), deadline=3600),
        p.Remove(piece),
    ), undo=(p.Remove(piece), p.Remove(new)), waits_only=True)
