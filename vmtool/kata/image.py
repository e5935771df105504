"""A guest image as its first bytes tell: what is in it, and where its root file system starts."""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass

from vmtool.machine import Reader
from vmtool.spec.verity_params import verity_problem

HEAD = 2048
SECTOR = 512
MIB = 1 << 20
FILESYSTEMS = ("ext4", "xfs", "erofs")
# Kata's builder starts the partition at 3 MiB, behind a header for DAX, or at 1 MiB without it.
OFFSETS = (3 * MIB, MIB)


@dataclass(frozen=True)
class ImageFacts:
    """An image file.

    Args:
        size: bytes; None when the file is absent.
        layout: "bare" is a file system without a partition table, "partition" one in an MBR's first partition; "gpt",
            "qcow2", "archive" (an initrd) or "unknown" otherwise; empty when the file could not be read.
        offset: bytes to the root file system.
        verity: kernel_verity_params out of the manifest beside the image; empty when it has none.
        filesystem: ext4 or erofs, as the manifest says; empty when there is none.
    """

    path: str
    size: int | None
    layout: str
    offset: int
    verity: str
    filesystem: str = ""


def read_image(reader: Reader, path: str) -> ImageFacts:
    """Look at the head of an image, and at the manifest that `vmtool rootfs build` puts beside it."""
    told = reader.run(("stat", "-L", "-c", "%s", path))
    if not told or told.status or not told.out.strip().isdecimal():
        return ImageFacts(path, None, "", 0, "")
    head = _head(reader, path)
    layout, offset = layout_of(head) if head else ("", 0)
    return ImageFacts(path, int(told.out), layout, offset, *_manifest(reader, path))


def layout_of(head: bytes) -> tuple[str, int]:
    """Layout and offset, from the first 2048 bytes."""
    if head[:4] == b"QFI\xfb":
        return "qcow2", 0
    if head[:2] == b"\x1f\x8b" or head[:6] in (b"070701", b"070702") or head[:4] == b"(\xb5/\xfd":
        return "archive", 0
    if is_filesystem(head):
        return "bare", 0
    if head[510:512] == b"\x55\xaa":
        kind, start = head[450], int.from_bytes(head[454:458], "little") * SECTOR
        return ("gpt", 0) if kind == 0xEE else ("partition", start) if start else ("unknown", 0)
    return "unknown", 0


def is_filesystem(head: bytes) -> bool:
    """ext4's magic at 0x438, erofs's at 1024, or XFS's at the start."""
    return head[0x438:0x43A] == b"\x53\xef" or head[1024:1028] == b"\xe2\xe1\xf5\xe0" or head[:4] == b"XFSB"


def read_hooks(reader: Reader, image: ImageFacts, hook_path: str) -> bool | None:
    """Whether the image has an executable file in HOOK_PATH/prestart; None when that could not be looked at.

    The agent runs regular files only, and a missing hook is an entry in its log, no error.
    """
    if image.layout not in ("bare", "partition"):
        return None
    # debugfs parses its command, and options behind a question mark, by itself.
    if set(hook_path) & set(" \"'\n") or "?" in image.path:
        return None
    source = f"{image.path}?offset={image.offset}" if image.offset else image.path
    told = reader.run(("debugfs", "-R", f"ls -p {posixpath.join(hook_path, 'prestart')}", source))
    if not told or "Filesystem not open" in told.out + told.err:
        return None
    # /INODE/MODE/UID/GID/NAME/SIZE/
    rows = [line.split("/") for line in told.out.splitlines() if line.startswith("/")]
    return any(len(row) > 5 and row[2].startswith("100") and int(row[2][-3:], 8) & 0o111 for row in rows)


def _head(reader: Reader, path: str) -> bytes:
    told = reader.run(("od", "-An", "-v", "-tx1", "-N", str(HEAD), path))
    try:
        return bytes.fromhex("".join(told.out.split())) if told and told.status == 0 else b""
    except ValueError:
        return b""


def _manifest(reader: Reader, path: str) -> tuple[str, str]:
    """dm-verity's parameters and the file system; what is not whole counts as absent.

    vmtool.rootfs.metadata.manifest has the form; its strict models are not needed for two values, and take
    a while to import.
    """
    try:
        manifest = json.loads(reader.text(f"{path}.manifest.json") or "{}")
        filesystem = manifest.get("filesystem")
        verity = (manifest.get("verity") or {}).get("kernel_verity_params")
    except (ValueError, AttributeError, RecursionError):
        return "", ""
    if not isinstance(verity, str) or verity_problem(verity):
        verity = ""
    return verity, next((known for known in FILESYSTEMS if known == filesystem), "")
