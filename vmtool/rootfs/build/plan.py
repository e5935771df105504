"""The plan of a guest image's build: packages, driver, files, file system, manifest; each part is kept for the next."""

from __future__ import annotations

import uuid
from pathlib import Path

from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import Refused
from vmtool.findings import refuse
from vmtool.rootfs.build.check import check_host
from vmtool.rootfs.build.debian_base import plan_debian
from vmtool.rootfs.build.facts import BuildFacts
from vmtool.rootfs.build.replace_files import Replacement, plan_replacements
from vmtool.rootfs.build.rpm_base import plan_rpm
from vmtool.rootfs.build.store import EPOCH, FILES, Store
from vmtool.rootfs.build.workers import cpio, insert_filesystem, merge_layers, write_headers
from vmtool.rootfs.format.layout import Geometry, Kind, fit
from vmtool.rootfs.metadata.workers import compare_lock, write_metadata
from vmtool.rootfs.recipe.input_facts import Inputs
from vmtool.rootfs.recipe.models import Recipe
from vmtool.rootfs.recipe.overlay import hook_path, make_overlay

# Each feature by name, so that no configuration of the build host's decides; all are older than Linux 5.10.
MKE2FS = """\
[defaults]
	base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
	blocksize = 4096
	inode_size = 256
	inode_ratio = 16384
[fs_types]
	ext4 = {
		features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
	}
	small = {
	}
	floppy = {
	}
	big = {
	}
	huge = {
	}
"""


def plan_build(directory: Path, store: Store, recipe: Recipe, facts: BuildFacts, tools_step: p.Step, tools: Tools,
               out: Path, *, driver_step: p.Step | None = None, fresh: bool = False,
               lock: Path | None = None) -> p.Plan:
    """From the recipe to the output file.

    Args:
        directory: of the journal.
        tools_step: unpacks `tools`.
        driver_step: see `vmtool.rootfs.build.plan_driver`.
        fresh: use nothing that an earlier build made.
        lock: a lock file that what is installed must equal; checked against the packages before they are used.

    Raises:
        NotReady: programs or space are missing.
        Refused: the recipe's parts contradict each other.
    """
    subject, inputs = f"build of {recipe.name}", facts.inputs
    image = store.image(recipe.name, inputs.image)
    give = plan_give(image, out, facts, fresh=fresh)
    whole = plan_hold(lock, image / "lock.json", "what is in the image")
    if facts.image and not fresh:
        return p.Plan(subject, directory, (p.Step(f"build {recipe.name}", skip="the same input was built before",
                                                  waits_only=True), *whole, give))
    lacking = check_host(store, recipe, facts)
    refuse(lacking, f"{recipe.name} cannot be built here", lacking[0].hint if lacking else "")
    if facts.base and not fresh:
        base = p.Step("install the packages", skip="the same ones are in the cache", waits_only=True)
    else:
        base = plan_base(store, recipe, facts)
        base = _anew(base, store.base(inputs.base))
    steps = [tools_step, base, *plan_hold(lock, store.base(inputs.base) / "packages.txt", "the packages")]
    if driver_step:
        existing = facts.driver and not fresh
        steps.append(p.Step(driver_step.title, skip="it is in the cache", waits_only=True) if existing else
                     _anew(driver_step, store.driver(inputs.driver)))
    steps.append(_anew(plan_image(store, recipe, inputs, tools), image))
    if facts.stale:
        steps.append(p.Step("remove what the cache has in vain", tuple(map(p.Remove, facts.stale)), waits_only=True))
    return p.Plan(subject, directory, (*steps, *whole, give))


def plan_hold(lock: Path | None, found: Path, what: str) -> tuple[p.Step, ...]:
    """Hold a list of packages against the lock file, when there is one."""
    if lock is None:
        return ()
    run = p.run_worker(compare_lock.Order(lock, found), deadline=120, hint=(
        "build without --lock, compare the lock files, and keep the new one when it is what you want"))
    return (p.Step(f"hold {what} against {lock.name}", (run,), waits_only=True),)


def plan_base(store: Store, recipe: Recipe, facts: BuildFacts) -> p.Step:
    """Install the packages, of either kind."""
    if recipe.rpm:
        return plan_rpm(store, recipe, facts)
    return plan_debian(store, recipe, facts)


def plan_image(store: Store, recipe: Recipe, inputs: Inputs, tools: Tools) -> p.Step:
    """From the archives to the image and its manifest."""
    scratch, place = store.scratch(recipe.name), store.image(recipe.name, inputs.image)
    archives = [store.base(inputs.base) / "base.tar"]
    if recipe.driver:
        archives.append(store.driver(inputs.driver) / "driver.tar")
    geometry = None if recipe.layout == "initrd" else geometry_of(recipe, recipe.layout)
    merge = merge_layers.Order(tuple(archives), scratch / "root.tar", make_overlay(recipe, EPOCH, inputs))
    return p.Step(f"make the image ({recipe.layout}, {recipe.filesystem})", (
        p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(place.parent, mode=0o755),
        p.run_worker(merge, deadline=1200),
        *_filesystem(recipe, geometry, inputs.image, tools, scratch),
        p.run_worker(_metadata(store, recipe, inputs), deadline=600),
        *(p.Remove(scratch / name) for name in ("root.tar", "mke2fs.conf", "verity.json", "layer.json")),
        p.Run(("mv", "--no-target-directory", str(scratch), str(place))),
    ), undo=(p.Remove(scratch),), waits_only=True)


def geometry_of(recipe: Recipe, kind: Kind) -> Geometry:
    """Where things lie in the recipe's image.

    Raises:
        Refused: they do not fit.
    """
    try:
        return fit(kind, recipe.size, verity=recipe.verity is not None)
    except ValueError as error:
        raise Refused(f"{recipe.name}: {error}", hint="raise `size` in the recipe") from error


def plan_give(image: Path, out: Path, facts: BuildFacts, *, fresh: bool) -> p.Step:
    """Copy the files out of the cache; they take their places together, the image last."""
    title = f"write {out.name}"
    if facts.image and facts.given and not fresh:
        return p.Step(title, skip="it is there, with its manifest", waits_only=True)
    copies: list[p.Action] = []
    replacements: list[Replacement] = []
    for name in (*list(FILES)[1:], "rootfs.img"):
        target = out.with_name(out.name + FILES[name])
        # A recipe without kernel has no vmlinuz; the one of an earlier build then goes.
        new = target.with_name(f".{target.name}.vmtool-new")
        replacement = Replacement(new, target, name in facts.present, name == "vmlinuz")
        copies.append(p.Run(("cp", "--reflink=auto", "--preserve=timestamps", str(image / name), str(replacement.new)),
                            deadline=3600, absent_messages=("cannot stat",) if replacement.optional else ()))
        replacements.append(replacement)
    return plan_replacements(title, out, tuple(replacements), tuple(copies))


def _filesystem(recipe: Recipe, geometry: Geometry | None, digest: str, tools: Tools, scratch: Path) -> list[p.Action]:
    root, image = scratch / "root.tar", scratch / "rootfs.img"
    if geometry is None:
        return [p.run_worker(cpio.Order(root, image), deadline=1200)]
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, f"vmtool:rootfs:{digest}"))
    env = (("SOURCE_DATE_EPOCH", str(EPOCH)), ("MKE2FS_CONFIG", str(scratch / "mke2fs.conf")))
    start: list[p.Action] = [p.Run(("truncate", f"--size={geometry.total}", str(image)))]
    if recipe.filesystem == "ext4":
        options = f"hash_seed={name},root_owner=0:0,offset={geometry.start},nodiscard,assume_storage_prezeroed=1"
        start += [p.WriteFile(scratch / "mke2fs.conf", MKE2FS),
                  p.Run(tools.argv("mke2fs", "-q", "-F", "-t", "ext4", "-m", "3", "-U", name, "-E", options,
                                   "-d", root, image, f"{geometry.size // 1024}k"), env=env, deadline=1800)]
    else:
        made = scratch / "erofs.img"
        start += [p.Run(tools.argv("mkfs.erofs", "--quiet", f"-T{EPOCH}", f"-U{name}", "--tar=f", made, root), env=env,
                        deadline=1800),
                  p.run_worker(insert_filesystem.Order(made, image, geometry.start, geometry.size), deadline=600),
                  p.Remove(made)]
    order = write_headers.Order(image, geometry, recipe.verity.salt if recipe.verity else "", scratch / "verity.json")
    return [*start, p.run_worker(order, deadline=1200)]


def _metadata(store: Store, recipe: Recipe, inputs: Inputs) -> write_metadata.Order:
    """What cannot be seen in the image."""
    driver = recipe.driver
    return write_metadata.Order(
        store.scratch(recipe.name), recipe.name, inputs.image, recipe.arch, recipe.layout,
        "cpio" if recipe.layout == "initrd" else recipe.filesystem, EPOCH,
        packages=store.base(inputs.base) / "packages.txt",
        target="kata-containers.target" if recipe.kata else recipe.units.default or "multi-user.target",
        units=recipe.units.enable, hook=hook_path(recipe), modules=("nvidia",) if driver else (),
        driver=store.driver(inputs.driver) / "driver.json" if driver else None,
        branch=driver.branch or "" if driver else "", toolkit=recipe.toolkit is not None,
        agent=recipe.kata.agent if recipe.kata else None)


def _anew(step: p.Step, place: Path) -> p.Step:
    """The step, with what an earlier build (or one with --no-cache) left in its place removed first."""
    return p.Step(step.title, (p.Remove(place), *step.actions), step.undo, step.skip, step.waits_only)
