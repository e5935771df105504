"""The head of a qcow2 file, as far as its reader is in danger (QEMU, docs/interop/qcow2.txt)."""

from __future__ import annotations

import struct
from pathlib import Path

from vmtool.foreign import open_file

MAGIC = b"QFI\xfb"
_HEAD = 104
_EXTERNAL_DATA = 1 << 2


def read_qcow2_problem(path: Path) -> str:
    """Why the file must not be opened, or nothing.

    A backing file or a data file is any path that whoever made the image wrote down: QEMU, which runs as root here,
    would read it, and a guest would find it in its disk.
    """
    with open_file(path) as file:
        return qcow2_problem(file.read(_HEAD))


def qcow2_problem(head: bytes) -> str:
    """See `read_qcow2_problem`."""
    if len(head) < 72 or head[:4] != MAGIC:
        return "its head is no qcow2's"
    version, backing = struct.unpack_from(">IQ", head, 4)
    encryption, = struct.unpack_from(">I", head, 32)
    if version not in (2, 3) or (version == 3 and len(head) < _HEAD):
        return f"qcow2 of an unknown version ({version})"
    if backing:
        return "it has a backing file, which is another file of this host's"
    if encryption:
        return "it is encrypted"
    if version == 3 and struct.unpack_from(">Q", head, 72)[0] & _EXTERNAL_DATA:
        return "its data are in another file of this host's"
    return ""
