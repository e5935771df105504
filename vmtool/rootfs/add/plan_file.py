"""Putting a file, or the prestart hook, into an ext4 image that is there: in a copy, without mounting anything."""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused, shell_word
from vmtool.frozen import dataclass
from vmtool.rootfs.build.replace_files import plan_replace_image
from vmtool.rootfs.build.workers import insert_file, write_headers
from vmtool.rootfs.format.image_file import ImageFile, manifest_path
from vmtool.rootfs.format.layout import KINDS, Geometry
from vmtool.rootfs.metadata.manifest import Manifest


@dataclass(frozen=True)
class Addition:
    """A file for the image: its text or its source, its path in the guest, its mode; whether it is the hook."""

    path: str
    mode: int
    text: str = ""
    source: Path | None = None
    hook: bool = False


def plan_add(directory: Path, image: ImageFile, users: tuple[str, ...], manifest: Manifest | None, addition: Addition,
             tools: Tools) -> p.Plan:
    """From the image to one with the file in it; hashes and manifest follow.

    Args:
        directory: of the journal.
        users: who uses the image now, a line each.

    Raises:
        Refused: the image is of a kind that cannot be written to.
        NotReady: it is in use.
    """
    check_writable(image, manifest)
    if users:
        raise NotReady(f"{image.path} is in use", details=users, hint="end what uses it, then try again")
    new, start = image.path.with_name(f".{image.path.name}.vmtool-new"), image.rootfs.start if image.rootfs else 0
    source = addition.source or directory / "addition"
    actions: list[p.Action] = [
        p.Remove(new), p.Remove(directory / "verity.json"),
        *([] if addition.source else [p.WriteFile(source, addition.text)]),
        p.Run(("cp", "--reflink=auto", "--preserve=all", str(image.path), str(new)), deadline=3600),
        p.run_worker(insert_file.Order(new, start, source, addition.path, addition.mode, tools.argv("debugfs")),
                     deadline=300),
        p.Run(tools.argv("e2fsck", "-fn", f"{new}?offset={start}"), deadline=3600)]
    if image.hashes and manifest and manifest.verity:
        geometry = Geometry(image.kind, image.size, start, manifest.verity.data_blocks * 4096,  # type: ignore[arg-type]
                            image.hashes.start, image.hashes.size)
        actions += [p.run_worker(write_headers.Order(new, geometry, manifest.verity.salt, directory / "verity.json"),
                                 deadline=3600)]
    exchange = plan_replace_image(directory, image.path, new, manifest_path(image.path) if manifest else None,
                             hook=addition.path if addition.hook else "")
    return p.Plan(f"addition to {image.path.name}", directory, (
        p.Step(f"put {addition.path} into a copy", tuple(actions), undo=(p.Remove(new),), waits_only=True), exchange))


def check_writable(image: ImageFile, manifest: Manifest | None) -> None:
    """Raise Refused, with the reason, for an image that cannot be written to."""
    if image.problem or image.kind not in KINDS or not image.rootfs:
        raise Refused(f"{image.path}: {image.problem or image.kind}",
                      hint=f"vmtool rootfs inspect {shell_word(image.path)}")
    if image.rootfs.holds != "ext4":
        raise Refused(f"{image.path} is {image.rootfs.holds}, which is written once",
                      hint="put it into the recipe and build the image again")
    if "?" in str(image.path):
        raise Refused(f"{image.path}: e2fsprogs takes what follows a question mark as options", hint="rename the image")
    if image.hashes and not (manifest and manifest.verity):
        raise Refused(f"{image.path} has dm-verity hashes, which a change breaks, and their salt is unknown",
                      hint="keep the image's manifest beside it, or build the image again")
