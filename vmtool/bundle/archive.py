"""The tar of a bundle: plain files in ustar's one form, so that the same members are the same bytes.

Whoever reads one makes each header again and compares: what a header could say beside name and size (links, devices,
owners, times, GNU's and POSIX' extensions) is not parsed, but refused.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping

from vmtool.attest.bundle_form import COMPRESSED, MOST_BYTES
from vmtool.attest.cursor import require

BLOCK = 512
END = bytes(2 * BLOCK)
MOST_MEMBERS = 1000
LONGEST = 99
# No part begins with a dot: neither "." nor "..", nor what a listing hides.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:+-]*(/[A-Za-z0-9_][A-Za-z0-9_.@:+-]*)*")
SIZE = re.compile(rb"[0-7]{11}\0")
# What a header's type says (pax(1), tar(5)).
KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device",
         b"5": "a directory", b"6": "a pipe", b"7": "a contiguous file", b"x": "a pax header", b"g": "a pax header",
         b"X": "a pax header", b"L": "a long name of GNU's", b"K": "a long link of GNU's", b"S": "a sparse file",
         b"M": "a part of a file", b"V": "a volume's label", b"D": "a directory of GNU's", b"N": "a long name of GNU's"}


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive of these members, in their order.

    Raises:
        NotProven: it would be none that `unpack` takes.
    """
    require(len(members) <= MOST_MEMBERS, f"more than {MOST_MEMBERS} members")
    parts = []
    for name, content in members.items():
        require(is_name(name), f"{name[:200]!r} cannot name a member")
        parts += [header(name, len(content)), content, _padding(len(content))]
    require(sum(map(len, parts)) + len(END) <= MOST_BYTES, f"larger than {MOST_BYTES >> 20} MiB")
    return b"".join((*parts, END))


def is_name(name: str) -> bool:
    """Whether it can name a member."""
    return len(name) <= LONGEST and NAME.fullmatch(name) is not None


def header(name: str, size: int) -> bytes:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.USTAR_FORMAT, "ascii")


def _padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def unpack(data: bytes) -> dict[str, bytes]:
    """The members of an archive, in their order.

    Raises:
        NotProven: it is none that `pack` writes; the reason names the member.
    """
    require(len(data) <= MOST_BYTES, f"larger than {MOST_BYTES >> 20} MiB")
    packer = next((name for start, name in COMPRESSED.items() if data.startswith(start)), None)
    require(packer is None, f"compressed ({packer}); a bundle is not")
    members: dict[str, bytes] = {}
    for name, content in _members(data):
        require(name not in members, f"member {name} occurs twice")
        require(len(members) < MOST_MEMBERS, f"more than {MOST_MEMBERS} members")
        members[name] = content
    return members


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    at, before = 0, "nothing"
    while data[at:at + BLOCK] != END[:BLOCK]:
        block = data[at:at + BLOCK]
        require(len(block) == BLOCK, f"the archive is cut: no header follows on {before}")
        name, size = _read_header(block, before)
        at += BLOCK
        content, padding = data[at:at + size], data[at + size:at + size + -size % BLOCK]
        require(len(content) == size, f"member {name}: {size - len(content)} of its {size} bytes are missing")
        require(padding == _padding(size), f"member {name}: what fills its last block is not zero, or is cut")
        at += size + len(padding)
        before = name
        yield name, content
    require(data[at:] == END, f"the archive does not end after {before} with two empty blocks")


def _read_header(block: bytes, before: str) -> tuple[str, int]:
    raw = block[:100].partition(b"\0")[0]
    shown = raw.decode("ascii", "backslashreplace")
    where = f"member {shown or 'without a name'} (after {before})"
    kind = KINDS.get(block[156:157])
    require(kind is None, f"{where} is {kind}, no plain file")
    require(shown.isascii() and is_name(shown), f"{where}: not a name of a bundle's members")
    require(SIZE.fullmatch(block[124:136]) is not None, f"{where}: its size is not written as ustar has it")
    size = int(block[124:135], 8)
    require(size <= MOST_BYTES, f"{where}: {size} bytes are too many")
    require(block == header(shown, size), f"{where}: its header is not as vmtool writes it")
    return shown, size


def names_in_order(names: Iterable[str], rank: Mapping[str, int], default: int) -> list[str]:
    """Names by their rank, which is that of the name or of its first part."""
    return sorted(names, key=lambda name: (rank.get(name, rank.get(name.partition("/")[0], default)), name))
