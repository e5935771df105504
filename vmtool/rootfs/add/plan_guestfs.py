"""Images that only a guest can read: qcow2, GPT, LVM, xfs, btrfs. libguestfs boots a small one for it.

Nobody vouches for such an image, so no file system of it is read by this host's kernel or by vmtool: that happens in
the guest, which has no network. `vmtool.rootfs.add.workers.guestfs` talks to it, in a child with a deadline.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vmtool import plan as p
from vmtool.architecture import KNOWN
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.isolation import PRIVATE
from vmtool.rootfs.add.guestfs_facts import Appliance
from vmtool.rootfs.add.plan_file import Addition
from vmtool.rootfs.build.replace_files import Swap, plan_swaps
from vmtool.rootfs.format.image_file import ImageFile
from vmtool.rootfs.format.qcow2 import read_qcow2_problem

KINDS = {"qcow2": "qcow2", "gpt": "raw", "disk": "raw", "lvm": "raw", "xfs": "raw", "btrfs": "raw"}
BINDING = "python3-guestfs"
WORK = (sys.executable, "-I", "-m", "vmtool.rootfs.add.workers.guestfs")
# supermin makes the guest once for all; under TCG that and a boot take half a minute on a slow machine.
DEADLINE = 600.0


def is_foreign(image: ImageFile) -> bool:
    """Whether it takes a guest to read the image; a truncated one is for nobody."""
    return image.kind in KINDS and not image.truncated


def check(image: ImageFile, appliance: Appliance) -> None:
    """Raise NotReady or Refused, with the reason, for what cannot or must not be opened."""
    if image.kind == "qcow2" and (problem := read_qcow2_problem(image.path)):
        raise Refused(f"{image.path}: {problem}", hint="qemu-img convert -O qcow2 OLD NEW, on a machine that trusts it")
    if not appliance.binding:
        raise NotReady(f"{image.path} is {image.kind}, which takes libguestfs, and its Python binding is missing",
                       hint=f"apt-get install {BINDING}; in a virtual environment, link its guestfs.py and "
                            "libguestfsmod.*.so of /usr/lib/python3/dist-packages")
    if appliance.missing:
        raise NotReady(f"{image.path} is {image.kind}, which takes libguestfs: {', '.join(appliance.missing)} missing",
                       hint=f"apt-get install {' '.join(_PACKAGES.get(name, name) for name in appliance.missing)}")


_PACKAGES = {"qemu-img": "qemu-utils", **{f"qemu-system-{each.machine}": each.qemu for each in KNOWN}}


def plan_look(directory: Path, image: ImageFile, appliance: Appliance, tools: Tools,
              before: tuple[p.Step, ...]) -> p.Plan:
    """Look into the image; what was found goes to DIRECTORY/foreign.json.

    Args:
        directory: of the journal.
        before: steps that bring a kernel and tools.
    """
    check(image, appliance)
    out = directory / "foreign.json"
    return p.Plan(f"look into {image.path.name}", directory, (*before, p.Step("look into it, in a guest", (
        p.Remove(out), *_run(directory, appliance, tools, image.path, "look", KINDS[image.kind], str(out)),
    ), undo=(p.Remove(directory / "guestfs"),), waits_only=True)))


def plan_insert(directory: Path, image: ImageFile, users: tuple[str, ...], addition: Addition, appliance: Appliance,
                tools: Tools, before: tuple[p.Step, ...]) -> p.Plan:
    """Put a file into a copy of the image, which takes its place.

    Raises:
        NotReady: the image is in use, or libguestfs is not there.
    """
    check(image, appliance)
    if users:
        raise NotReady(f"{image.path} is in use", details=users, hint="end what uses it, then try again")
    new, source = image.path.with_name(f".{image.path.name}.vmtool-new"), addition.source or directory / "addition"
    actions = (
        p.Remove(new), *([] if addition.source else [p.WriteFile(source, addition.text)]),
        p.Run(("cp", "--reflink=auto", "--sparse=always", "--preserve=all", str(image.path), str(new)), deadline=3600),
        *_run(directory, appliance, tools, new, "insert", KINDS[image.kind], str(source), addition.path,
              f"{addition.mode:04o}"))
    return p.Plan(f"addition to {image.path.name}", directory, (
        *before,
        p.Step(f"put {addition.path} into a copy, in a guest", actions,
               undo=(p.Remove(new), p.Remove(directory / "guestfs")), waits_only=True),
        plan_swaps("put it in the old one's place", image.path, (Swap(new, image.path, there=True),))))


def _run(directory: Path, appliance: Appliance, tools: Tools, image: Path, verb: str, *words: str) -> list[p.Action]:
    scratch = directory / "guestfs"
    env = [("LIBGUESTFS_BACKEND", "direct"), ("LIBGUESTFS_CACHEDIR", str(appliance.cache)), ("TMPDIR", str(scratch)),
           *([] if appliance.kvm else [("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")])]
    argv = (*(PRIVATE if appliance.root else ()), *WORK, verb, str(appliance.kernel or "-"), str(image), *words)
    return [p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(appliance.cache),
            p.Run((*argv, *tools.argv("depmod")), env=tuple(env), deadline=DEADLINE), p.Remove(scratch)]
