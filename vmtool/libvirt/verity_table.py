"""dm-verity over the disks of a guest: what a host alters stops the guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmtool.rootfs.format.hash_tree import BLOCK

if TYPE_CHECKING:  # the programs that make disks need none of pydantic
    from vmtool.spec.runtime import Body

# How a disk's file system is made: read-only, in dm-verity's blocks, since a small one's own would be fewer bytes; with
# the same names and times each time.
_NAME = "1f0a4c52-7b0e-5d0c-9a55-3c6c1d4c0e6f"
EPOCH = 1_700_000_000
MAKE_DISK = ("mke2fs", "-q", "-t", "ext4", "-b", str(BLOCK), "-O", "^has_journal", "-m", "0", "-U", _NAME,
             "-E", f"hash_seed={_NAME}")
MAKE_ENV = (("E2FSPROGS_FAKE_TIME", str(EPOCH)),)
_SECTORS = BLOCK // 512


def is_verified(body: Body) -> bool:
    """Whether the guest holds its disks against root hashes: always in a TEE, whose host is not believed."""
    request = body.runtime.libvirt.verity
    return body.runtime.tee != "none" if request is None else request


def table_line(data: str, hashes: str, blocks: int, start: int, root_hash: str, salt: str) -> str:
    """Device-mapper's table of a device that is verified with SHA-256 over blocks of 4 KiB.

    Args:
        data, hashes: the devices.
        blocks: of data; start: the first block of the hashes on their device.
        salt: hexadecimal; "-" for none.
    """
    return (f"0 {blocks * _SECTORS} verity 1 {data} {hashes} {BLOCK} {BLOCK} {blocks} {start} sha256 {root_hash} "
            f"{salt or '-'} 1 panic_on_corruption")


def root_hash_of(line: str) -> str:
    """The root hash in a line that `table_line` made; empty when it is none."""
    words = line.split()
    return words[11] if len(words) == 15 and words[2] == "verity" else ""
