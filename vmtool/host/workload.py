"""A container image as a disk for a guest that libvirt starts: a program of vmtool's own.

    python -m vmtool.host.workload IMAGE TREE CACHE DIRECTORY CTR...

The image's root file system becomes CACHE/DIGEST.ext4, once for all instances, and is linked as DIRECTORY/workload.img;
its environment becomes DIRECTORY/environment. TREE is an empty directory that the image is mounted on meanwhile. CTR is
how ctr is called.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Increase when the same image would give another disk.
FORMAT = 1
# Where an instance's own files come in; the disk is read-only, so their places must be there.
PLACES = ("models/local", "models/hub")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MIB = 1 << 20
BLOCK = 4096


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
            own = ARCHITECTURES.get(platform.machine(), "amd64")
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


def make_disk(tree: Path, disk: Path) -> None:
    """Write a file system with what is below `tree`; whole or not at all."""
    size, files = size_of(tree)
    # Inodes of 256 bytes, block bitmaps, directories' indexes and extents: an eighth is plenty, and costs no disk.
    total = size + size // 8 + files * 512 + 64 * MIB
    new = disk.with_suffix(".new")
    new.unlink(missing_ok=True)
    argv = ("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-N", str(files + 1024), "-d", str(tree),
            str(new), f"{total >> 10}k")
    result = subprocess.run(argv, capture_output=True, timeout=1800, check=False)
    if result.returncode:
        new.unlink(missing_ok=True)
        sys.exit(f"mke2fs: {result.stderr.decode(errors='replace').strip()[-300:]}")
    # A workload's image is no secret, and QEMU may run as a user of its own.
    new.chmod(0o644)
    new.replace(disk)


def quoted(line: str) -> str:
    """NAME=VALUE as systemd reads it in an EnvironmentFile (systemd.exec(5))."""
    name, _, value = line.partition("=")
    return name + '="' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) < 5:
        sys.exit(__doc__)
    image, tree, cache, directory = words[0], Path(words[1]), Path(words[2]), Path(words[3])
    store = Store(words[4:])
    digest = store.digest(image)
    disk = cache / f"{digest.partition(':')[2]}-{FORMAT}.ext4"
    if not disk.exists():
        store.call("images", "mount", "--rw", image, str(tree))
        try:
            for place in PLACES:
                (tree / place).mkdir(parents=True, exist_ok=True)
            make_disk(tree, disk)
        finally:
            store.call("images", "unmount", "--rm", str(tree))
    link = directory / "workload.img"
    link.unlink(missing_ok=True)
    os.link(disk, link)
    lines = [quoted(line) for line in store.environment(digest)]
    (directory / "environment").write_text("".join(f"{line}\n" for line in lines))
    print(digest)


if __name__ == "__main__":
    main(sys.argv[1:])
