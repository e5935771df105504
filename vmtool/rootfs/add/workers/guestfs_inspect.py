"""What is in an image, read in a guest by libguestfs: a worker."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.add.workers.guestfs import GuestTree, mount, opened
from vmtool.rootfs.add.workers.guestfs_kernel import GuestKernel, prepare
from vmtool.rootfs.inspect.contents import Contents, check_contents, read_contents

_LARGEST = 4 << 20
_TOOLKIT = "nvidia-container-toolkit"


@dataclass(frozen=True)
class Order:
    """The image with the format that it is read as, the kernel of the guest that reads it, and the file that receives
    what is found."""

    image: Path
    format: str
    kernel: GuestKernel
    out: Path


def run(order: Order, host: Host) -> None:
    """Write down what is in the image, as JSON of a few MiB at most."""
    prepare(host, order.kernel)
    with opened(order.image, order.format, write=False) as guest:
        systems = [{"device": device, "holds": kind, "size": size_of(guest, device)}
                   for device, kind in sorted(guest.list_filesystems().items())]
        table = first_of(lambda: guest.part_get_parttype("/dev/sda"))
        root = mount(guest, write=False)
        tree = GuestTree(guest)
        contents = completed(guest, root, read_contents(tree))
        findings = [each.as_json() for each in check_contents(tree, contents)]
        size = guest.blockdev_getsize64("/dev/sda")
    text = json.dumps({"virtual_size": size, "table": table, "root": root, "filesystems": systems[:64],
                       "contents": asdict(contents), "findings": findings}) + "\n"
    if len(text) > _LARGEST:
        raise Refused("what was found is more than an image's owner would write: it is not shown")
    host.write(order.out, text)


def completed(guest: Any, root: str, contents: Contents) -> Contents:
    """With the toolkit's version where RPM's database shows it."""
    if not contents.has_toolkit or contents.toolkit:
        return contents
    try:
        packages = guest.inspect_list_applications2(root)
    except RuntimeError:
        return contents
    version = next((each["app2_version"] for each in packages if each["app2_name"] == _TOOLKIT), "")
    return replace(contents, toolkit=version)


def size_of(guest: Any, device: str) -> int:
    """A device's size in bytes; -1 for what is no block device, such as a subvolume of btrfs."""
    try:
        return int(guest.blockdev_getsize64(device))
    except RuntimeError:
        return -1


def first_of(ask: Any) -> str:
    """An answer, or nothing."""
    try:
        return str(ask())
    except RuntimeError:
        return ""
