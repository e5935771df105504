"""Programs on guest images, vmtool's own workers among them: what they make is told by what they were asked for."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.fakes.machine.builders import make
from tests.fakes.machine.call import Call, Program, done, failed
from tests.fakes.machine.tree import Inode
from vmtool.libvirt.workers.workload_disk import disk_path
from vmtool.machine import Output
from vmtool.rootfs.format.image_file import manifest_path, undo_file_path

METADATA_FILES = ("manifest.json", "lock.json", "spdx.json")


def change(call: Call, image: str, *inputs: str, what: str = "") -> Output:
    """Write into an image that is there: half at first."""
    tree = call.machine.tree
    for each in (image, *inputs):
        if not call.machine.exists(each):
            return failed(f"{call.name}: {each}: No such file or directory")
    before = tree.get(image)
    told = [before.data, *(tree.get(each).data for each in inputs), what.encode()]
    before.data = b"half written"
    call.machine.changed()
    before.data = f"{call.name} of {told}".encode()
    call.machine.changed()
    return done()


def e2fsck(call: Call) -> Output:
    """Content when the file is there; with -fp it may write."""
    file = call.words[-1].partition("?")[0]
    if not call.machine.tree.find(file):
        return failed(f"e2fsck: No such file or directory while trying to open {file}", 8)
    return change(call, file, what="repaired") if "-fp" in call.words else done()


def resize2fs(call: Call) -> Output:
    return change(call, call.words[0].partition("?")[0], what=call.words[1])


def mke2fs(call: Call) -> Output:
    """`... -d SOURCE FILE SIZE`: the file may be there."""
    source, file, size = call.value("-d"), call.words[-2], call.words[-1]
    if not call.machine.tree.find(file):
        call.machine.tree.write(file, b"")
    return change(call, file, *([source] if (call.machine.tree.find(source) or Inode("dir")).kind == "file" else []),
                  what=size)


def mkfs_erofs(call: Call) -> Output:
    return make(call, call.words[-2], call.words[-1], what=repr(call.words[:-2]))


def boot(call: Call) -> Output:
    """A guest that boots to its end: it writes to its console."""
    for file in (call.value("-kernel"), call.value("-initrd")):
        if not call.machine.exists(file):
            return failed(f"qemu: could not open kernel file '{file}': No such file or directory")
    call.machine.tree.overwrite(call.value("-serial").removeprefix("file:"), b"VMTOOL-REPORT end\n")
    return done()


def extract(call: Call) -> Output:
    return make(call, call.order["out"], call.order["image"], mode=0o600)


def insert_filesystem(call: Call) -> Output:
    return change(call, call.order["image"], call.order["file"], what=str(call.order["start"]))


def write_headers(call: Call) -> Output:
    """With a salt the hashes' values go to a file beside."""
    order = call.order
    result = change(call, order["image"], what=json.dumps([order["geometry"], order["salt"]]))
    return make(call, order["verity"], order["image"]) if order["salt"] and not result.status else result


def rewrite_manifest(call: Call) -> Output:
    return make(call, call.order["out"], call.order["manifest"], call.order["image"])


def insert_file(call: Call) -> Output:
    return change(call, call.order["image"], call.order["file"], what=call.order["path"])


def run_e2fsck(call: Call) -> Output:
    return call.machine.execute(tuple(call.order["argv"]), deadline=1.0)


def merge_layers(call: Call) -> Output:
    order = call.order
    result = make(call, order["out"], *order["archives"], what=json.dumps(order["overlay"]))
    return result if result.status else make(call, f"{posixpath.dirname(order['out'])}/layer.json", order["out"])


def write_metadata(call: Call) -> Output:
    """Of an image that was built, or of one that something was added to."""
    order = call.order
    inputs = [each for each in (order.get("manifest"), order.get("image")) if each]
    for name in METADATA_FILES:
        result = make(call, f"{order['directory']}/{name}", f"{order['directory']}/layer.json", *inputs,
                      what=json.dumps([name, order]))
        if result.status:
            return result
    return done()


def compare_lock(call: Call) -> Output:
    there = all(call.machine.exists(call.order[name]) for name in ("lock", "found"))
    return done() if there else failed("no such file")


def cpio(call: Call) -> Output:
    return make(call, call.order["out"], call.order["source"])


def ext4_to_tar(call: Call) -> Output:
    order = call.order
    return make(call, order["out"], order["image"], what=repr((order["start"], order["paths"])))


def nvidia_modules(call: Call) -> Output:
    order = call.order
    result = make(call, f"{order['out']}/driver.tar", order["base"], what=repr(order["tree"]))
    return result if result.status else make(call, f"{order['out']}/driver.json", order["base"])


def make_initramfs(call: Call) -> Output:
    """Out of a directory; appended to a whole one likewise."""
    order = call.order
    inside = call.machine.tree.below(order["directory"])
    return make(call, order["out"], order["image"], order["busybox"],
                *(each for each in inside if each != order["out"]), mode=0o600)


def guestfs(call: Call) -> Output:
    """The small guest is made in its cache once."""
    order, tree = call.order, call.machine.tree
    if not tree.find(f"{call.env['LIBGUESTFS_CACHEDIR']}/appliance"):
        tree.write(f"{call.env['LIBGUESTFS_CACHEDIR']}/appliance", b"a small guest")
    tree.write(f"{call.env['TMPDIR']}/socket", b"")
    result = make(call, order["out"], order["image"]) if "out" in order else change(call, order["image"], order["file"])
    tree.unlink(f"{call.env['TMPDIR']}/socket")
    return result


def grow_in_place(call: Call) -> Output:
    """The undo file first, then image and manifest, then the undo file goes."""
    order = call.order
    tree, image = call.machine.tree, Path(order["image"])
    found, manifest = tree.get(str(image)), manifest_path(image)
    kept = {"data": found.data.decode(), "size": found.size, "manifest": call.machine.text(str(manifest))}
    tree.write(str(undo_file_path(image)), json.dumps(kept).encode(), 0o600)
    found.size = order["new"]["total"]
    call.machine.changed()
    change(call, str(image), what="grown")
    if order["manifest"]:
        tree.overwrite(str(manifest), b"the grown image's", 0o644)
    tree.unlink(str(undo_file_path(image)))
    return done()


def roll_back(call: Call) -> Output:
    """Back to what the undo file says, which goes last."""
    image = Path(call.order["image"])
    tree, undo, manifest = call.machine.tree, str(undo_file_path(image)), str(manifest_path(image))
    if not tree.find(undo):
        return done()
    kept, found = json.loads(tree.read(undo)), tree.get(str(image))
    found.data, found.size = kept["data"].encode(), kept["size"]
    call.machine.changed()
    if kept["manifest"] is not None:
        tree.overwrite(manifest, kept["manifest"].encode(), 0o644)
    elif tree.find(manifest):
        tree.unlink(manifest)
    tree.unlink(undo)
    return done()


def add_verity(call: Call) -> Output:
    result = change(call, call.order["disk"], what="hashes")
    return result if result.status else make(call, call.order["table"], call.order["disk"])


def write_reference(call: Call) -> Output:
    """Of the kernel and the initramfs that are there by then."""
    return make(call, call.order["out"], call.order["kernel"], call.order["initrd"])


def compute_reference(call: Call) -> Output:
    """The same, of a guest in a TEE; what is not there is named in the file."""
    files = [call.order["guest"][name] for name in ("firmware", "kernel", "initrd")]
    return make(call, call.order["out"], *(file for file in files if file and call.machine.tree.find(file)))


def workload_disk(call: Call) -> Output:
    """The cache's disk, made once, and its link."""
    order, machine = call.order, call.machine
    image, mounted, directory, ctr = order["image"], order["tree"], order["directory"], order["ctr"]
    disk = str(disk_path(Path(order["cache"]), order["digest"], order["verity"]))
    if not machine.tree.find(disk):
        for verb in (("mount", "--rw", image, mounted), ("unmount", "--rm", mounted)):
            result = machine.execute((*ctr, "images", *verb), deadline=1.0)
            if result.status:
                return result
        machine.tree.write(f"{disk}.new", image.encode())
        if order["verity"]:
            make(call, disk.replace(".ext4", ".verity"), f"{disk}.new")
        machine.tree.rename(f"{disk}.new", disk)
    machine.tree.put(f"{directory}/workload.img", machine.tree.get(disk))
    if order["verity"]:
        machine.tree.put(f"{directory}/workload.verity", replace(machine.tree.get(disk.replace(".ext4", ".verity"))))
    machine.tree.write(f"{directory}/environment", b"PATH=/usr/bin\n")
    return done("sha256:00\n")


# By the worker's name.
WORKERS: Mapping[str, Program] = {
    "rootfs.build.extract": extract, "rootfs.build.insert_filesystem": insert_filesystem,
    "rootfs.build.write_headers": write_headers, "rootfs.metadata.rewrite_manifest": rewrite_manifest,
    "rootfs.build.insert_file": insert_file, "rootfs.build.run_e2fsck": run_e2fsck,
    "rootfs.build.merge_layers": merge_layers, "rootfs.build.cpio": cpio,
    "rootfs.build.nvidia_modules": nvidia_modules, "rootfs.add.ext4_to_tar": ext4_to_tar,
    "rootfs.add.guestfs_inspect": guestfs, "rootfs.add.guestfs_insert": guestfs,
    "rootfs.metadata.write_metadata": write_metadata, "rootfs.metadata.update_metadata": write_metadata,
    "rootfs.metadata.compare_lock": compare_lock, "rootfs.boot.make_initramfs": make_initramfs,
    "rootfs.boot.append_initramfs": make_initramfs, "rootfs.grow.grow_in_place": grow_in_place,
    "rootfs.grow.roll_back": roll_back, "libvirt.write_reference": write_reference,
    "attest.compute_reference": compute_reference,
    "libvirt.add_verity": add_verity, "libvirt.workload_disk": workload_disk,
}
