"""A container image as a disk for a libvirt guest: a worker.

The image's root file system becomes CACHE/DIGEST...ext4, once for all instances, and is linked as
DIRECTORY/workload.img; its environment becomes DIRECTORY/environment and, with dm-verity, its table
DIRECTORY/workload.verity.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import ProgramFailed, VerificationFailed
from vmtool.frozen import dataclass
from vmtool.libvirt.initramfs_files import DRIVER
from vmtool.libvirt.verity_table import MAKE_DISK, MAKE_ENV
from vmtool.libvirt.workers.add_verity import append_hash_tree
from vmtool.libvirt.workers.image_store import Store
from vmtool.machine import Host
from vmtool.rootfs.format.hash_tree import BLOCK

# Increase when the same image would give another disk.
FORMAT = 5
# Where an instance's own files come in; the disk is read-only, so their places must be there.
PLACES = ("models/local", "models/hub", DRIVER.lstrip("/"))
SEARCHED = "LD_LIBRARY_PATH"
KINDS = ("plain", "verity")
MIB = 1 << 20


@dataclass(frozen=True)
class Order:
    """What becomes a disk.

    Args:
        image: its name in containerd; digest, chain: what that name must point to, see
            `vmtool.image.pinned_image`.
        verity: with dm-verity's hashes.
        tree: an empty directory that the image is mounted on meanwhile.
        cache, directory: see above.
        ctr: how ctr is called.
    """

    image: str
    digest: str
    chain: str
    verity: bool
    tree: Path
    cache: Path
    directory: Path
    ctr: tuple[str, ...]


def size_of(tree: Path) -> tuple[int, int]:
    """Bytes in whole blocks and number of files below a directory."""
    size = files = 0
    for directory, names, others in os.walk(tree):
        for name in (*names, *others):
            found = os.lstat(os.path.join(directory, name))
            size += -(-found.st_size // BLOCK) * BLOCK
            files += 1
    return size, files


def make_disk(host: Host, tree: Path, disk: Path, *, verity: bool = False) -> None:
    """Write a file system with what is below `tree`; with `verity` also dm-verity's table; whole or not at all."""
    size, files = size_of(tree)
    # Inodes of 256 bytes, block bitmaps, directories' indexes and extents: an eighth is plenty, and costs no disk.
    total = size + size // 8 + files * 512 + 64 * MIB
    new = disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    argv = (*MAKE_DISK, "-N", str(files + 1024), "-d", str(tree), str(new), f"{total >> 10}k")
    result = host.execute(argv, deadline=1800, env=MAKE_ENV)
    if result.status:
        new.unlink(missing_ok=True)
        raise ProgramFailed(f"mke2fs: {result.err.strip()[-300:]}")
    if verity:
        table_of(disk).write_text(f"{append_hash_tree(host, new)}\n")
    # A workload's image is no secret, and QEMU may run as a user of its own.
    new.chmod(0o644)
    new.replace(disk)


def table_of(disk: Path) -> Path:
    """dm-verity's table of a disk; it is written before the disk takes its name."""
    return disk.with_suffix(".verity")


def disk_name(digest: str, kind: str) -> str:
    """Of an image's disk in the cache."""
    return f"{digest}-{FORMAT}-{kind}.ext4"


def disk_path(cache: Path, digest: str, verity: bool) -> Path:
    """An image's disk in the cache.

    Args:
        digest: of the image, "sha256:...".
    """
    return cache / disk_name(digest.partition(":")[2], KINDS[verity])


def prune(cache: Path, store: Store) -> None:
    """Remove the disks that nobody uses, of images that are gone or of another format, and halves that a kill left;
    one process at a time makes disks, under the host's lock."""
    for half in cache.glob("*.new"):
        half.unlink()
    kept = {disk_name(digest, kind) for digest in store.digests() for kind in KINDS}
    for disk in cache.glob("*.ext4"):
        if disk.name not in kept and disk.stat().st_nlink == 1:
            disk.unlink()
            table_of(disk).unlink(missing_ok=True)


def finding_driver(lines: Sequence[str]) -> list[str]:
    """An environment in which programs find the guest's NVIDIA libraries, if it has any, after the image's own."""
    values = dict(line.partition("=")[::2] for line in lines)
    places = filter(None, values.pop(SEARCHED, "").split(":"))
    values[SEARCHED] = ":".join(dict.fromkeys((*places, f"{DRIVER}/lib64")))
    return [f"{name}={value}" for name, value in values.items()]


def quoted(line: str) -> str:
    """NAME=VALUE as systemd reads it in an EnvironmentFile (systemd.exec(5))."""
    name, _, value = line.partition("=")
    return name + '="' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'


def run(order: Order, host: Host) -> None:
    """Do it."""
    store, directory = Store(host, order.ctr), order.directory
    disk = disk_path(order.cache, order.digest, order.verity)
    if not disk.exists():
        _fill(order, store, disk)
    prune(order.cache, store)
    link = directory / "workload.img"
    link.unlink(missing_ok=True)
    os.link(disk, link)
    if order.verity:
        shutil.copyfile(table_of(disk), table_of(link))
    lines = map(quoted, finding_driver(store.environment(order.digest)))
    (directory / "environment").write_text("".join(f"{line}\n" for line in lines))
    print(order.digest)


def _fill(order: Order, store: Store, disk: Path) -> None:
    """Make the disk from the image, mounted meanwhile."""
    store.call("images", "mount", "--rw", order.image, str(order.tree))
    try:
        if (found := store.parent(order.tree)) != order.chain:
            raise VerificationFailed(f"{order.image} was moved: it has the layers {found}, not those of "
                                     f"{order.digest}", hint="vmtool image list")
        for place in PLACES:
            (order.tree / place).mkdir(parents=True, exist_ok=True)
        make_disk(store.host, order.tree, disk, verity=order.verity)
    finally:
        store.call("images", "unmount", "--rm", str(order.tree))
