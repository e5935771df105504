"""By what a bundle of a launch is recognised, and how large one may be; what is in it is `vmtool.bundle`'s."""

from __future__ import annotations

FIRST = "bundle.json"
MOST_BYTES = 64 << 20
# How files begin that are compressed: whoever unpacked one would not know how large it becomes.
COMPRESSED = {b"\x1f\x8b": "gzip", b"\x1f\x9d": "compress", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz",
              b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"PK\3\4": "zip", b"]\0\0": "lzma"}
# Of a header of ustar, pax or GNU.
MAGIC = slice(257, 262), b"ustar"


def is_bundle(data: bytes) -> bool:
    """Whether a file's beginning is that of a tar, of a bundle, or of what is compressed."""
    place, magic = MAGIC
    return data[place] == magic or data.startswith((FIRST.encode() + b"\0", *COMPRESSED))
