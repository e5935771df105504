"""What additions to an image share that need its whole tree: read it out, change it, make the file system again.

The new image has the old one's layout, size and file-system UUID, and is next to it until it is whole.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.frozen import dataclass
from vmtool.rootfs.add.plan_file import check_writable
from vmtool.rootfs.add.workers import ext4_to_tar
from vmtool.rootfs.build.plan import MKE2FS
from vmtool.rootfs.build.replace_files import Replacement, plan_replacements
from vmtool.rootfs.build.store import EPOCH, FILES
from vmtool.rootfs.build.workers import merge_layers, write_headers
from vmtool.rootfs.format.image_file import ImageFile, manifest_path
from vmtool.rootfs.format.layout import STARTS, Geometry
from vmtool.rootfs.metadata.manifest import Manifest
from vmtool.rootfs.metadata.workers import update_metadata
from vmtool.rootfs.recipe.layer import Overlay

# The guest's own, whatever an installation makes of them.
KEPT = ("etc/apt", "etc/hostname", "etc/machine-id", "etc/resolv.conf")
# What an installation leaves; an image of vmtool's has nothing else there either.
_DROPPED = ("/var/cache/apt", "/var/cache/debconf", "/var/log/apt")
_OWN = ("/boot", "/var/cache", "/var/log")
_METADATA_FILES = ("manifest.json", "lock.json", "spdx.json")


@dataclass(frozen=True)
class ExistingImage:
    """The image that gets something.

    Args:
        users: who uses it now, a line each.
        manifest: None when it has none; then there are no metadata files to write.
        present: names of FILES that lie beside it.
        scratch: a directory for the time of the work, in the cache.
        free: bytes free there, and beside the image; None when unknown.
    """

    image: ImageFile
    users: tuple[str, ...]
    manifest: Manifest | None
    present: tuple[str, ...]
    scratch: Path
    free: int | None

    def beside(self, name: str) -> Path:
        return self.image.path.with_name(self.image.path.name + FILES[name])


@dataclass(frozen=True)
class ImageChange:
    """What makes new archives out of SCRATCH/old.tar.

    Args:
        title: for a person.
        actions: that do it.
        archives: which then give the tree, a later one's files winning.
        added: what the manifest will say.
        modules: names of kernel modules that the image promises from now on.
        driver: a file that shows the driver's version; see `vmtool.rootfs.build.workers.nvidia_modules`.
        branch: that it must be of; empty for any.
    """

    title: str
    actions: tuple[p.Action, ...]
    archives: tuple[Path, ...]
    added: tuple[str, ...]
    modules: tuple[str, ...] = ()
    driver: Path | None = None
    branch: str = ""


def plan_rebuild(directory: Path, old: ExistingImage, change: ImageChange, tools: Tools, *,
                 before: tuple[p.Step, ...] = ()) -> p.Plan:
    """From the image to one with the change.

    Args:
        directory: of the journal.
        before: steps that bring the tools.

    Raises:
        Refused: the image is of a kind that cannot be written to.
        NotReady: it is in use, or space is missing.
    """
    check(old)
    scratch, image = old.scratch, old.image
    start = image.rootfs.start if image.rootfs else 0
    new = image.path.with_name(f".{image.path.name}.vmtool-new")
    undo = (p.Remove(scratch), p.Remove(new))
    whole = ext4_to_tar.Order(image.path, start, scratch / "old.tar")
    kept = ext4_to_tar.Order(image.path, start, scratch / "kept.tar", KEPT)
    replacements, manifest_file = _papers(old, new)
    return p.Plan(f"addition to {image.path.name}", directory, (
        *before,
        p.Step("read the image", (
            p.Remove(scratch), p.MakeDir(scratch), p.run_worker(whole, deadline=1200),
            p.run_worker(kept, deadline=300)),
               undo=(p.Remove(scratch),), waits_only=True),
        p.Step(change.title, change.actions, undo=(p.Remove(scratch),), waits_only=True),
        p.Step("make the image again", (*_filesystem(old, change, new, tools), *_describe(old, change, new)),
               undo=undo, waits_only=True),
        plan_replacements("put it in the old one's place", image.path, replacements, manifest_file),
        p.Step("tidy up", (p.Remove(scratch),), waits_only=True)))


def check(old: ExistingImage) -> None:
    """Raise Refused or NotReady, with the reason, for an image that cannot be made again now."""
    image = old.image
    check_writable(image, old.manifest)
    if image.rootfs and image.rootfs.start != STARTS[image.kind]:  # type: ignore[index]  # check_writable looked
        raise Refused(f"{image.path}: partition 1 starts at byte {image.rootfs.start}, where Kata's layout has it at "
                      f"{STARTS[image.kind]}")  # type: ignore[index]
    if old.users:
        raise NotReady(f"{image.path} is in use", details=old.users, hint="end what uses it, then try again")
    # Its tree as archives of before and after, unpacked once between, and the new image.
    needed = 5 * image.allocated
    if old.free is not None and old.free < needed:
        raise NotReady(f"{old.free >> 20} MiB free, {needed >> 20} MiB are needed",
                       hint="make room beside the image, and in the cache (VMTOOL_CACHE)")


def _geometry(old: ExistingImage) -> Geometry:
    image, manifest = old.image, old.manifest
    start, size = (image.rootfs.start, image.rootfs.size) if image.rootfs else (0, image.size)
    hashes = (image.hashes.start, image.hashes.size) if image.hashes else (0, 0)
    if image.hashes and manifest and manifest.verity:
        size = manifest.verity.data_blocks * 4096
    return Geometry(image.kind, image.size, start, size // 4096 * 4096, *hashes)  # type: ignore[arg-type]


def _filesystem(old: ExistingImage, change: ImageChange, new: Path, tools: Tools) -> tuple[p.Action, ...]:
    scratch, geometry, block = old.scratch, _geometry(old), old.image.superblock
    name = block.uuid if block else ""
    overlay = Overlay(EPOCH, drop=_OWN if old.manifest else _DROPPED)
    options = f"hash_seed={name},root_owner=0:0,offset={geometry.start},nodiscard,assume_storage_prezeroed=1"
    env = (("SOURCE_DATE_EPOCH", str(EPOCH)), ("MKE2FS_CONFIG", str(scratch / "mke2fs.conf")))
    label = ("-L", block.label) if block and block.label else ()
    salt = old.manifest.verity.salt if old.manifest and old.manifest.verity else ""
    return (
        p.WriteFile(scratch / "mke2fs.conf", MKE2FS),
        p.run_worker(merge_layers.Order(change.archives, scratch / "new.tar", overlay), deadline=1200),
        p.Remove(new), p.Run(("cp", "--attributes-only", "--preserve=mode,ownership", str(old.image.path), str(new))),
        p.Run(("truncate", f"--size={geometry.total}", str(new))),
        p.Run(tools.argv("mke2fs", "-q", "-F", "-t", "ext4", "-m", "3", "-U", name, *label, "-E", options, "-d",
                         scratch / "new.tar", new, f"{geometry.size // 1024}k"), env=env, deadline=1800,
              hint="the image may be too small for it: vmtool rootfs resize IMAGE +1G"),
        p.run_worker(write_headers.Order(new, geometry, salt, scratch / "verity.json"), deadline=1200))


def _describe(old: ExistingImage, change: ImageChange, new: Path) -> tuple[p.Action, ...]:
    if not old.manifest:
        return ()
    order = update_metadata.Order(
        old.scratch, new, manifest_path(old.image.path), change.added,
        old.beside("lock.json") if "lock.json" in old.present else None, change.modules, change.driver, change.branch)
    return (p.run_worker(order, deadline=1200),)


def _papers(old: ExistingImage, new: Path) -> tuple[tuple[Replacement, ...], tuple[p.Action, ...]]:
    """What is exchanged, the image last; and the copies that bring the metadata files beside it."""
    names = _METADATA_FILES if old.manifest else ()
    targets = [(name, old.beside(name), old.beside(name).with_name(f".{old.beside(name).name}.vmtool-new"))
               for name in names]
    replacements = [Replacement(beside, target, name in old.present) for name, target, beside in targets]
    copies = tuple(p.Run(("cp", "--no-target-directory", str(old.scratch / name), str(beside)))
                   for name, _, beside in targets)
    return (*replacements, Replacement(new, old.image.path, existing=True)), copies
