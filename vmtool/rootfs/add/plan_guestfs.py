"""Images that only a guest can read: qcow2, GPT, LVM, xfs, btrfs. libguestfs boots a small one for it.

Nobody vouches for such an image, so no file system of it is read by this host's kernel or by vmtool: that happens in
the guest, which has no network. Workers talk to it, with a deadline: `vmtool.rootfs.add.workers.guestfs`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmtool import plan as p
from vmtool.architecture import KNOWN
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.isolation import private
from vmtool.rootfs.add.guestfs_facts import Appliance
from vmtool.rootfs.add.plan_file import Addition
from vmtool.rootfs.add.workers import guestfs_insert, guestfs_inspect
from vmtool.rootfs.add.workers.guestfs_kernel import GuestKernel
from vmtool.rootfs.build.replace_files import Replacement, plan_replacements
from vmtool.rootfs.format.image_file import ImageFile
from vmtool.rootfs.format.qcow2 import read_qcow2_problem

KINDS = {"qcow2": "qcow2", "gpt": "raw", "disk": "raw", "lvm": "raw", "xfs": "raw", "btrfs": "raw"}
BINDING = "python3-guestfs"
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

    def order(kernel: GuestKernel) -> guestfs_inspect.Order:
        return guestfs_inspect.Order(image.path, KINDS[image.kind], kernel, out)

    return p.Plan(f"look into {image.path.name}", directory, (*before, p.Step("look into it, in a guest", (
        p.Remove(out), *_run(directory, appliance, tools, order),
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

    def order(kernel: GuestKernel) -> guestfs_insert.Order:
        return guestfs_insert.Order(new, KINDS[image.kind], kernel, source, addition.path, addition.mode)

    actions = (
        p.Remove(new), *([] if addition.source else [p.WriteFile(source, addition.text)]),
        p.Run(("cp", "--reflink=auto", "--sparse=always", "--preserve=all", str(image.path), str(new)), deadline=3600),
        *_run(directory, appliance, tools, order))
    return p.Plan(f"addition to {image.path.name}", directory, (
        *before,
        p.Step(f"put {addition.path} into a copy, in a guest", actions,
               undo=(p.Remove(new), p.Remove(directory / "guestfs")), waits_only=True),
        plan_replacements("put it in the old one's place", image.path, (Replacement(new, image.path, existing=True),))))


def _run(directory: Path, appliance: Appliance, tools: Tools, order: Callable[[GuestKernel], Any]) -> list[p.Action]:
    scratch = directory / "guestfs"
    env = [("LIBGUESTFS_BACKEND", "direct"), ("LIBGUESTFS_CACHEDIR", str(appliance.cache)), ("TMPDIR", str(scratch)),
           *([] if appliance.kvm else [("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg")])]
    work = p.run_worker(order(GuestKernel(appliance.kernel, tools.argv("depmod"))), env=tuple(env), deadline=DEADLINE,
                        prefix=private(root=True) if appliance.root else ())
    return [p.Remove(scratch), p.MakeDir(scratch), p.MakeDir(appliance.cache), work, p.Remove(scratch)]
