"""A file into an image, in a guest by libguestfs: a worker."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.add.workers.guestfs import GuestTree, mount, opened
from vmtool.rootfs.add.workers.guestfs_kernel import GuestKernel, prepare
from vmtool.rootfs.inspect.tree import Node


@dataclass(frozen=True)
class Order:
    """The image with the format that it is read as, the kernel of the guest, and the file; `path` and `mode` are in the
    image."""

    image: Path
    format: str
    kernel: GuestKernel
    file: Path
    path: str
    mode: int


def run(order: Order, host: Host) -> None:
    """Put a file into the image, in the place of one that is there; it is read back.

    Raises:
        Refused: a directory is in its place; or dm-verity's hashes would not fit any more.
    """
    path, mode = order.path, order.mode
    prepare(host, order.kernel)
    with opened(order.image, order.format, write=True) as guest:
        if "DM_verity_hash" in guest.list_filesystems().values():
            raise Refused("the image has dm-verity hashes, which a change breaks")
        mount(guest, write=True)
        tree, parent = GuestTree(guest), path.rpartition("/")[0]
        node = tree.look(path)
        if node and node.kind == "dir":
            raise Refused(f"{path}: a directory of the image is there")
        guest.mkdir_p(parent or "/")
        guest.rm_f(path)
        guest.upload(str(order.file), path)
        guest.chmod(mode, path)
        guest.chown(0, 0, path)
        guest.sync()
        seen = tree.look(path)
        if seen != Node("file", mode, order.file.stat().st_size):
            raise Refused(f"{path} did not get into the image")
