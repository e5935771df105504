"""Growing an image: in a copy that takes its place when it is whole and clean; nothing is mounted."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from vmtool import plan as p
from vmtool.errors import NotReady, Refused
from vmtool.facts.imagefile import Extent, ImageFile
from vmtool.rootfs.geometry import GRAIN, KINDS, STARTS, Geometry, fit, round_up
from vmtool.rootfs.manifest import Manifest, manifest_path
from vmtool.rootfs.tools import Tools
from vmtool.spec import parse_size

# Inode tables, bitmaps and the journal of what is new, at the default ratio; and the hashes, one block in 128.
_OVERHEAD = 64
_HASHES = 127
DISK = (sys.executable, "-m", "vmtool.host.disk")


@dataclass(frozen=True)
class ResizeFacts:
    """What must be known.

    Args:
        image: with its path free of symbolic links.
        users: who uses the image now, a line each.
        free: bytes free beside it; None when unknown.
        manifest: None when there is none.
    """

    image: ImageFile
    users: tuple[str, ...]
    free: int | None
    manifest: Manifest | None


def parse_growth(text: str, size: int) -> int:
    """The wanted size in bytes; "+20G" is added to `size`, as qemu-img and truncate do; units are powers of 1024.

    Raises:
        Refused: it is no size, or smaller than the image.
    """
    plus, number = text.startswith("+"), text.removeprefix("+")
    try:
        # Of the guide's own command, `qemu-img resize rootfs.img +20G`, where G is 2^30.
        wanted = parse_size(re.sub(r"([KMGTkmgt])(iB|B)?$", lambda unit: unit[1].upper() + "i", number))
    except ValueError as error:
        raise Refused(f"{text}: {error}", hint="vmtool rootfs resize IMAGE +20G") from error
    wanted += size if plus else 0
    if wanted < size:
        raise Refused(f"{text} is less than the image has ({size} bytes): an image is only grown here",
                      hint="build a smaller one: `size` in the recipe")
    return wanted


def plan_resize(directory: Path, facts: ResizeFacts, wanted: int, tools: Tools) -> p.Plan:
    """From the image to a larger one.

    Args:
        directory: of the journal.

    Raises:
        Refused: the image cannot be grown.
        NotReady: it is in use, or space is missing.
    """
    image = facts.image
    subject = f"resize of {image.path.name}"
    check_growable(image)
    total = round_up(wanted, 4096 if image.kind == "bare" else GRAIN)
    if total <= image.size:
        return p.Plan(subject, directory, (p.Step("grow the image", skip=f"it has {image.size} bytes"),))
    salt = _salt(facts)
    try:
        geometry = fit(image.kind, total, verity=bool(salt))  # type: ignore[arg-type]  # check_growable looked
    except ValueError as error:
        raise Refused(f"{image.path}: {error}") from error
    if facts.users:
        raise NotReady(f"{image.path} is in use", details=facts.users, hint="end what uses it, then try again")
    _check_space(facts, geometry)
    new, piece = (image.path.with_name(f".{image.path.name}.vmtool-{word}") for word in ("new", "part"))
    steps = [_plan_filesystem(image, geometry, tools, new if image.kind == "bare" else piece)]
    if image.kind != "bare":
        steps.append(_plan_disk(image, geometry, piece, new, directory / "geometry.json", salt))
    steps.append(plan_exchange(directory, image.path, new, manifest_path(image.path) if facts.manifest else None))
    return p.Plan(subject, directory, tuple(steps))


def plan_exchange(directory: Path, image: Path, new: Path, manifest: Path | None, *, hook: str = "") -> p.Step:
    """Put a changed image, and the manifest of what it has become, in the old one's place.

    Two files cannot be renamed at once. So links to both old ones lie in a directory until both new ones are there,
    and that directory goes at one stroke: before it, the way back leads to the old pair, after it to nothing.

    Args:
        hook: path of a hook that the image promises from now on.
    """
    old = image.with_name(f".{image.name}.vmtool-old")
    gone, sealed = image.with_name(f".{image.name}.vmtool-gone"), directory / "manifest.json"
    actions: list[p.Action] = [p.Remove(old), p.Remove(gone), p.MakeDir(old),
                               p.Run(("ln", str(image), str(old / "image")))]
    # Before the exchange both names are of one file, which mv refuses.
    nothing = ("cannot stat", "are the same file")
    undo: list[p.Action] = [p.Run(("mv", "--force", str(old / "image"), str(image)), gone=nothing)]
    put = [p.Run(("mv", "--force", "--no-target-directory", str(new), str(image)))]
    if manifest:
        actions += [p.Run((*DISK, "seal", str(manifest), str(new), str(sealed), *([hook] if hook else [])),
                          deadline=3600),
                    p.Run(("ln", str(manifest), str(old / "manifest")))]
        undo.append(p.Run(("mv", "--force", str(old / "manifest"), str(manifest)), gone=nothing))
        # Across file systems mv is no rename: first beside it.
        beside = manifest.with_name(f".{manifest.name}.vmtool-new")
        put += [p.Run(("cp", str(sealed), str(beside))), p.Run(("mv", "--force", str(beside), str(manifest)))]
        undo.append(p.Remove(beside))
    return p.Step("put it in the old one's place", (
        *actions, *put, p.Run(("mv", "--no-target-directory", str(old), str(gone))), p.Remove(gone),
    ), undo=(*undo, p.Remove(new), p.Remove(old), p.Remove(gone)), waits=True)


def check_growable(image: ImageFile) -> None:
    """Raise Refused, with the reason, for what cannot grow."""
    if image.rootfs and image.rootfs.holds == "erofs":
        raise Refused(f"{image.path} is erofs, which is written once and cannot grow",
                      hint="build it anew, or choose filesystem ext4 in the recipe")
    if image.problem or image.kind not in KINDS or image.rootfs is None:
        raise Refused(f"{image.path} cannot be grown: {image.problem or image.kind}",
                      hint=f"vmtool rootfs inspect {image.path}")
    if image.superblock and image.superblock.encrypted:
        raise Refused(f"{image.path} cannot be grown: its files are encrypted (fscrypt)")
    if "?" in str(image.path):
        raise Refused(f"{image.path}: e2fsprogs takes what follows a question mark as options", hint="rename the image")
    if image.rootfs.start != STARTS[image.kind]:
        raise Refused(f"{image.path} cannot be grown: partition 1 starts at byte {image.rootfs.start}, where Kata's "
                      f"layout has it at {STARTS[image.kind]}")


def _salt(facts: ResizeFacts) -> str:
    """The salt of the hashes that must be made anew; empty when there are none."""
    if not facts.image.hashes:
        return ""
    if not facts.manifest or not facts.manifest.verity:
        raise Refused(f"{facts.image.path} has dm-verity hashes, which growing breaks, and nothing tells their salt",
                      hint="name the image's manifest with --manifest FILE, or build the image anew")
    return facts.manifest.verity.salt


def _check_space(facts: ResizeFacts, geometry: Geometry) -> None:
    image = facts.image
    copies = 1 if image.kind == "bare" else 2
    needed = copies * image.allocated + (geometry.total - image.size) // _OVERHEAD + (
        geometry.size // _HASHES if geometry.hash_size else 0)
    if facts.free is not None and facts.free < needed:
        raise NotReady(f"{image.path.parent}: {facts.free >> 20} MiB free, {needed >> 20} MiB are needed for the copy "
                       "that takes the image's place", hint="make room there")


def _plan_filesystem(image: ImageFile, geometry: Geometry, tools: Tools, file: Path) -> p.Step:
    """Grow a copy of the file system."""
    rootfs = image.rootfs or Extent(0, image.size)
    if image.kind == "bare":
        copy = p.Run(("cp", "--reflink=auto", "--preserve=all", str(image.path), str(file)),
                     deadline=3600)
    else:
        copy = p.Run((*DISK, "carve", str(image.path), str(rootfs.start), str(rootfs.size), str(file)), deadline=3600)
    check = p.Run((*DISK, "mend", *tools.argv("e2fsck", "-fp", file)), deadline=3600)
    return p.Step("grow a copy of the file system", (
        p.Remove(file), copy, check,
        p.Run(tools.argv("resize2fs", file, f"{geometry.size // 1024}K"), deadline=3600),
        p.Run(("truncate", f"--size={geometry.size}", str(file))),
        p.Run(tools.argv("e2fsck", "-fn", file), deadline=3600),
    ), undo=(p.Remove(file),), waits=True)


def _plan_disk(image: ImageFile, geometry: Geometry, piece: Path, new: Path, file: Path, salt: str) -> p.Step:
    """Put the file system into a new image, with its label and its hashes."""
    return p.Step("put the image together", (
        p.Remove(new), p.Remove(file.with_name("verity.json")),
        p.WriteFile(file, json.dumps(geometry.to_json()) + "\n"),
        p.Run(("cp", "--attributes-only", "--preserve=all", str(image.path), str(new))),
        p.Run(("truncate", f"--size={geometry.total}", str(new))),
        p.Run((*DISK, "place", str(piece), str(new), str(geometry.start)), deadline=3600),
        p.Run((*DISK, "label", str(new), str(file), *([salt] if salt else [])), deadline=3600),
        p.Remove(piece),
    ), undo=(p.Remove(piece), p.Remove(new)), waits=True)
