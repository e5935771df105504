"""A container image as a disk for a guest that libvirt starts: a program of vmtool's own.

    python -m vmtool.libvirt.workers.workload_disk IMAGE (plain|verity) TREE CACHE DIRECTORY CTR...

The image's root file system becomes CACHE/DIGEST...ext4, once for all instances, and is linked as
DIRECTORY/workload.img; its environment becomes DIRECTORY/environment and, with `verity`, its table for dm-verity
DIRECTORY/workload.verity. TREE is an empty directory that the image is mounted on meanwhile. CTR is how ctr is called.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.architecture import architecture_of
from vmtool.libvirt.initramfs_files import DRIVER
from vmtool.libvirt.verity_table import MAKE_DISK
from vmtool.libvirt.workers.add_verity import protect
from vmtool.rootfs.format.hash_tree import BLOCK

# Increase when the same image would give another disk.
FORMAT = 3
# Where an instance's own files come in; the disk is read-only, so their places must be there.
PLACES = ("models/local", "models/hub", DRIVER.lstrip("/"))
SEARCHED = "LD_LIBRARY_PATH"
KINDS = ("plain", "verity")
MIB = 1 << 20


class Store:
    """A containerd's images, by ctr."""

    def __init__(self, ctr: Sequence[str]) -> None:
        self.ctr = tuple(ctr)

    def call(self, *words: str) -> str:
        """The output of a call.

        Raises:
            SystemExit: it failed.
        """
        result = subprocess.run((*self.ctr, *words), capture_output=True, timeout=300, check=False)
        if result.returncode:
            sys.exit(f"ctr {' '.join(words[:2])}: {result.stderr.decode(errors='replace').strip()[-300:]}")
        return result.stdout.decode(errors="replace")

    def digest(self, image: str) -> str:
        """The digest of what an image's name refers to."""
        for line in self.call("images", "list", f"name=={image}").splitlines():
            words = line.split()
            if words[:1] == [image] and (found := re.search(r"sha256:[0-9a-f]{64}", line)):
                return found[0]
        sys.exit(f"there is no image {image}")

    def digests(self) -> set[str]:
        """The digests of all images."""
        return set(re.findall(r"sha256:([0-9a-f]{64})", self.call("images", "list")))

    def document(self, digest: str) -> dict[str, Any]:
        """A JSON document of the content store."""
        document = json.loads(self.call("content", "get", digest))
        if not isinstance(document, dict):
            sys.exit(f"{digest} is no document")
        return document

    def environment(self, digest: str) -> list[str]:
        """The image's environment, NAME=VALUE; of an index, the image for this machine."""
        document = self.document(digest)
        if "manifests" in document:
            own = architecture_of(platform.machine()).debian
            fitting = [each for each in document["manifests"] if each.get("platform", {}).get("architecture") == own]
            document = self.document((fitting or document["manifests"])[0]["digest"])
        config = self.document(document["config"]["digest"])
        return list(map(str, config.get("config", {}).get("Env") or ()))


def size_of(tree: Path) -> tuple[int, int]:
    """Bytes in whole blocks and number of files below a directory."""
    size = files = 0
    for directory, names, others in os.walk(tree):
        for name in (*names, *others):
            found = os.lstat(os.path.join(directory, name))
            size += -(-found.st_size // BLOCK) * BLOCK
            files += 1
    return size, files


def make_disk(tree: Path, disk: Path, *, verity: bool = False) -> None:
    """Write a file system with what is below `tree`; with `verity` also dm-verity's table; whole or not at all."""
    size, files = size_of(tree)
    # Inodes of 256 bytes, block bitmaps, directories' indexes and extents: an eighth is plenty, and costs no disk.
    total = size + size // 8 + files * 512 + 64 * MIB
    new = disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    argv = (*MAKE_DISK, "-N", str(files + 1024), "-d", str(tree), str(new), f"{total >> 10}k")
    result = subprocess.run(argv, capture_output=True, timeout=1800, check=False)
    if result.returncode:
        new.unlink(missing_ok=True)
        sys.exit(f"mke2fs: {result.stderr.decode(errors='replace').strip()[-300:]}")
    if verity:
        table_of(disk).write_text(f"{protect(new)}\n")
    # A workload's image is no secret, and QEMU may run as a user of its own.
    new.chmod(0o644)
    new.replace(disk)


def table_of(disk: Path) -> Path:
    """dm-verity's table of a disk; it is written before the disk takes its name."""
    return disk.with_suffix(".verity")


def disk_name(digest: str, kind: str) -> str:
    """Of an image's disk in the cache."""
    return f"{digest}-{FORMAT}-{kind}.ext4"


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


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) < 6 or words[1] not in KINDS:
        sys.exit(__doc__)
    image, kind = words[:2]
    tree, cache, directory = map(Path, words[2:5])
    store = Store(words[5:])
    digest = store.digest(image)
    disk = cache / disk_name(digest.partition(":")[2], kind)
    if not disk.exists():
        store.call("images", "mount", "--rw", image, str(tree))
        try:
            for place in PLACES:
                (tree / place).mkdir(parents=True, exist_ok=True)
            make_disk(tree, disk, verity=kind == "verity")
        finally:
            store.call("images", "unmount", "--rm", str(tree))
    prune(cache, store)
    link = directory / "workload.img"
    link.unlink(missing_ok=True)
    os.link(disk, link)
    if kind == "verity":
        shutil.copyfile(table_of(disk), table_of(link))
    lines = map(quoted, finding_driver(store.environment(digest)))
    (directory / "environment").write_text("".join(f"{line}\n" for line in lines))
    print(digest)


if __name__ == "__main__":
    main(sys.argv[1:])
