"""What a file is, by the bytes that its format starts with."""

from __future__ import annotations

import zlib

from vmtool.rootfs.format.superblock import parse_superblock

# What else an image can be: (place, bytes, name).
_SIGNATURES = (
    (0, b"QFI\xfb", "qcow2"), (0, b"KDMV", "vmdk"), (0, b"# Disk DescriptorFile", "vmdk"), (0, b"conectix", "vhd"),
    (0, b"vhdxfile", "vhdx"), (64, b"\x7f\x10\xda\xbe", "vdi"), (0, b"LUKS\xba\xbe", "luks"), (0, b"070701", "initrd"),
    (0, b"070702", "initrd"), (0, b"\x1f\x8b", "gzip"), (0, b"\x28\xb5\x2f\xfd", "zstd"), (0, b"\xfd7zXZ\0", "xz"),
    (0, b"hsqs", "squashfs"), (0, b"XFSB", "xfs"), (0x10040, b"_BHRfS_M", "btrfs"), (257, b"ustar", "tar"),
    (0x218, b"LVM2 001", "lvm"), (0, b"\x7fELF", "program"), (0x8001, b"CD001", "iso9660"),
)
_EROFS = b"\xe2\xe1\xf5\xe0"


def is_cpio(head: bytes) -> bool:
    """Whether gzip holds an archive as the kernel unpacks it; only its first bytes are unpacked."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head, 6) in (b"070701", b"070702")
    except zlib.error:
        return False


def recognise(head: bytes) -> str:
    """The name of what starts with these bytes; empty for nothing known."""
    if parse_superblock(head):
        return "ext4"
    if head[1024:1028] == _EROFS:
        return "erofs"
    return next((name for place, magic, name in _SIGNATURES if head[place:place + len(magic)] == magic), "")
