"""Growing an image: what is refused, how large it becomes, and which of the two ways it goes. Nothing is mounted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused, shell_word
from vmtool.frozen import dataclass
from vmtool.quantity import parse_size
from vmtool.rootfs.build.replace_files import plan_replace_image
from vmtool.rootfs.format.image_file import ImageFile, manifest_path
from vmtool.rootfs.format.layout import GRAIN, KINDS, STARTS, Geometry, fit, round_up
from vmtool.rootfs.grow.plan_copy import plan_disk, plan_filesystem
from vmtool.rootfs.grow.plan_in_place import plan_growth

if TYPE_CHECKING:
    from vmtool.rootfs.metadata.manifest import Manifest

# Inode tables, bitmaps and the journal of what is new, at the default ratio.
_OVERHEAD = 64
# Of a file's name, in bytes: beside IMAGE lies .IMAGE.manifest.json.12345678.tmp for a moment, and a name has 255.
_LONGEST_NAME = 220
AGAIN = "build a larger one instead, by `size` in its recipe: vmtool rootfs build RECIPE -o IMAGE"


@dataclass(frozen=True)
class ResizeFacts:
    """What must be known.

    Args:
        image: with its path free of symbolic links.
        users: who uses the image now, a line each.
        free: bytes free beside it; None when unknown.
        manifest: None when there is none; `manifest_file` is the file that it was read from.
        beside: whether a manifest is next to the image.
    """

    image: ImageFile
    users: tuple[str, ...]
    free: int | None
    manifest: Manifest | None
    manifest_file: Path | None = None
    beside: bool = True


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


def plan_resize(directory: Path, facts: ResizeFacts, wanted: int, tools: Tools, *, copy: bool = False) -> p.Plan:
    """From the image to a larger one.

    Args:
        directory: of the journal.
        copy: grow a copy although the image could be grown in its place.

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
    manifest_file = (facts.manifest_file or manifest_path(image.path)) if facts.manifest else None
    why = "you asked for it" if copy else why_copy(image, geometry)
    _check_space(facts, geometry, bool(why))
    if not why:
        verity = facts.manifest.verity if facts.manifest and salt else None
        return p.Plan(subject, directory, (plan_growth(image, geometry, verity, manifest_file, tools),))
    new, piece = (image.path.with_name(f".{image.path.name}.vmtool-{word}") for word in ("new", "part"))
    steps = [plan_filesystem(image, geometry, tools, new if image.kind == "bare" else piece, why)]
    if image.kind != "bare":
        steps.append(plan_disk(image, geometry, piece, new, directory / "verity.json", salt))
    steps.append(plan_replace_image(directory, image.path, new, manifest_file, existing=facts.beside))
    return p.Plan(subject, directory, tuple(steps))


def why_copy(image: ImageFile, geometry: Geometry) -> str:
    """Why the image cannot be grown in its place; empty when it can."""
    block = image.superblock
    if image.shared:
        return "the file has other names, which keep the old image"
    if not block or not block.clean:
        return "the file system must be repaired"
    if not block.largest:
        return "the file system has features, or numbers, that only a copy can grow with"
    if geometry.size > block.largest:
        return "blocks in use have to move"
    return ""


def check_growable(image: ImageFile) -> None:
    """Raise Refused, with the reason, for what cannot grow."""
    if image.rootfs and image.rootfs.holds == "erofs":
        raise Refused(f"{image.path} is erofs, which is written once and cannot grow",
                      hint="build it again, or choose filesystem ext4 in the recipe")
    if image.problem or image.kind not in KINDS or image.rootfs is None:
        raise Refused(f"{image.path} cannot be grown: {image.problem or image.kind}",
                      hint=f"vmtool rootfs inspect {shell_word(image.path)}")
    if len(image.partitions) > 1 and not image.hashes:
        raise Refused(f"{image.path} cannot be grown: partition 2 holds {image.partitions[1].holds}, which would "
                      "be lost",
                      hint="only dm-verity hashes move along; vmtool rootfs build makes an image of one partition")
    if len(bytes(Path(image.path.name))) > _LONGEST_NAME:
        raise Refused(f"{image.path}: the name is too long for what is next to the image while it grows",
                      hint=f"rename the image: at most {_LONGEST_NAME} bytes")
    if image.superblock and (image.superblock.encrypted or image.superblock.clustered):
        why = "files are encrypted (fscrypt)" if image.superblock.encrypted else "blocks are in clusters (bigalloc)"
        raise Refused(f"{image.path} cannot be grown: its {why}", hint=AGAIN)
    if "?" in str(image.path):
        raise Refused(f"{image.path}: e2fsprogs takes what follows a question mark as options", hint="rename the image")
    if image.rootfs.start != STARTS[image.kind]:
        raise Refused(f"{image.path} cannot be grown: partition 1 starts at byte {image.rootfs.start}, where Kata's "
                      f"layout has it at {STARTS[image.kind]}", hint=AGAIN)


def _salt(facts: ResizeFacts) -> str:
    """The salt of the hashes that must be made again; empty when there are none."""
    if not facts.image.hashes:
        return ""
    if not facts.manifest or not facts.manifest.verity:
        raise Refused(f"{facts.image.path} has dm-verity hashes, which growing breaks, and their salt is unknown",
                      hint="name the image's manifest with --manifest FILE, or build the image again")
    return facts.manifest.verity.salt


def _check_space(facts: ResizeFacts, geometry: Geometry, copied: bool) -> None:
    image = facts.image
    copies = 0 if not copied else 1 if image.kind == "bare" else 2
    # In its place: once in the image and once in the scratch copy; and the old hashes in the undo.
    metadata = (geometry.total - image.size) // _OVERHEAD * (1 if copied else 2)
    hashes = geometry.hash_size + (image.hashes.size if image.hashes and not copied else 0)
    needed = copies * image.allocated + metadata + hashes
    if facts.free is not None and facts.free < needed:
        what = "for the copy that takes the image's place" if copied else "for inode tables, bitmaps and hashes"
        raise NotReady(f"{image.path.parent}: {facts.free >> 20} MiB free, {needed >> 20} MiB are needed {what}",
                       hint="make room there")
