"""The archive of a bundle: one form, and whatever else a tar can be is refused by the member's name."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.attest.cases import EDITS, edited, request
from vmtool.attest.appraisal import NotProven
from vmtool.attest.bundle_form import MOST_BYTES, is_bundle
from vmtool.bundle.archive import END, header, pack, unpack
from vmtool.bundle.contents import HEAD
from vmtool.launch.commands import bundle

MEMBERS = {HEAD: b"{}\n", "a/b.json": b"x" * 600, "c": b""}
GOOD = pack(MEMBERS)


def reason(data: bytes) -> str:
    """Why it is refused."""
    with pytest.raises(NotProven) as error:
        unpack(data)
    return str(error.value)


def made(form: int, *infos: tarfile.TarInfo) -> bytes:
    """As tar(1) would write them; each file holds what fills its size."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return out.getvalue()


def info(name: str = "x", **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.mode = 0o600
    for field, value in fields.items():
        setattr(found, field, value)
    return found


def test_what_is_packed_is_unpacked_and_tar_reads_it() -> None:
    assert unpack(GOOD) == MEMBERS and list(unpack(GOOD)) == list(MEMBERS)
    with tarfile.open(fileobj=io.BytesIO(GOOD)) as tar:
        assert {each.name: (each.size, each.mtime, each.uid, each.isreg()) for each in tar} == {
            name: (len(content), 0, 0, True) for name, content in MEMBERS.items()}


KINDS = {tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link", tarfile.CHRTYPE: "a character device",
         tarfile.BLKTYPE: "a block device", tarfile.DIRTYPE: "a directory", tarfile.FIFOTYPE: "a pipe",
         tarfile.CONTTYPE: "a contiguous file", tarfile.GNUTYPE_SPARSE: "a sparse file"}


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.get)
def test_only_plain_files(kind: bytes) -> None:
    data = made(tarfile.GNU_FORMAT, info("bad", type=kind, linkname="/etc/passwd"))
    assert reason(data).startswith("member bad") and f" (after nothing) is {KINDS[kind]}, no plain file" in reason(data)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", "./x", ".x", "a/", "a/.b", "", "a\nb", "a b", "a\\b",
                                  "\x1b[2J", "é", "a" * 100, "a" * 98 + "/b", "~/x", "*"])
def test_only_plain_names(name: str) -> None:
    raw = header("x", 0)
    block = name.encode()[:100].ljust(100, b"\0") + raw[100:]
    assert "a name of a bundle's members" in reason(checked(block) + END)
    with pytest.raises(NotProven):
        pack({name: b""})


def checked(block: bytes) -> bytes:
    """The header with its checksum made again."""
    total = sum(block[:148]) + 8 * 32 + sum(block[156:])
    return block[:148] + f"{total:06o}\0 ".encode() + block[156:]


@pytest.mark.parametrize(("place", "value"), [
    (100, b"0000644\0"), (108, b"0000001\0"), (116, b"0000001\0"), (136, b"00000000001\0"),
    (156, b"\0"), (156, b"9"), (157, b"link"), (257, b"ustar  \0"), (263, b"01"), (265, b"root"), (297, b"root"),
    (329, b"0000001\0"), (345, b"prefix"), (508, b"tail"), (124, b"     000000\0"), (124, b"0000000000 \0")])
def test_a_header_has_one_form(place: int, value: bytes) -> None:
    for finish in (checked, bytes):
        block = header("bad", 0)
        block = finish(block[:place] + value + block[place + len(value):])
        assert "member bad (after nothing)" in reason(block + END)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"00000000001\1",
                                  b"-0000000001\0", f"{MOST_BYTES + 1:011o}\0".encode(), b"00000003000\0"])
def test_a_size_that_is_not_there_is_not_believed(size: bytes) -> None:
    block = header("bad", 0)
    assert "member bad" in reason(checked(block[:124] + size + block[136:]) + END)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_extensions_of_posix_and_gnu(form: int) -> None:
    assert "member" in reason(made(form, info("é" * 80)))
    assert "member" in reason(made(tarfile.PAX_FORMAT, info(mtime=1.5)))
    assert "member" in reason(made(tarfile.GNU_FORMAT, info(uid=1 << 40)))
    assert "a pax header" in reason(made(tarfile.PAX_FORMAT, info(pax_headers={"GNU.sparse.major": "1"})))


def test_members_that_occur_twice_are_out_of_place_or_too_many() -> None:
    one = header("x", 0)
    assert reason(one + one + END) == "member x occurs twice"
    assert reason(b"".join(header(f"x{number}", 0) for number in range(1001)) + END) == "more than 1000 members"
    swapped = pack(dict(reversed(MEMBERS.items())))
    assert "members are missing" in bundle.appraise(swapped, request(), None)[0].claims[0].evidence


@pytest.mark.parametrize("pack_up", [gzip.compress, bz2.compress, lzma.compress,
                                     lambda data: b"\x28\xb5\x2f\xfd" + data])
def test_what_is_compressed_is_not_unpacked(pack_up: Callable[[bytes], bytes]) -> None:
    bomb = pack_up(bytes(1 << 20))
    assert is_bundle(bomb) and "compressed" in reason(bomb)
    [refused] = bundle.appraise(bomb, request(), None)
    assert refused.unproven == ("bundle.format",)


@pytest.mark.parametrize(("data", "why"), [
    (GOOD[:-1], "the archive does not end after c"), (GOOD[:-1024], "no header follows on c"),
    (GOOD[:600], "fills its last block"), (GOOD[:514], "member bundle.json: 1 of its 3 bytes are missing"),
    (GOOD + bytes(1), "does not end after c"), (GOOD + GOOD, "does not end after c"), (b"", "no header"),
    (GOOD[:520] + b"x" + GOOD[521:], "member bundle.json: what fills"), (END, "")])
def test_it_ends_where_it_ends(data: bytes, why: str) -> None:
    assert why in (reason(data) if why else "") and (why or unpack(data) == {})


def test_more_than_a_bundle_may_hold_is_not_packed() -> None:
    with pytest.raises(NotProven, match="larger than 64 MiB"):
        pack({"x": bytes(MOST_BYTES)})
    with pytest.raises(NotProven, match="more than 1000 members"):
        pack({f"x{number}": b"" for number in range(1001)})


@given(edits=EDITS)
def test_whatever_is_unpacked_is_what_was_packed(edits: list[tuple[float, int, bytes]]) -> None:
    """No crash, and what is taken is the one form of what it holds."""
    data = edited(GOOD, edits)
    try:
        members = unpack(data)
    except NotProven:
        return
    assert pack(members) == data


@given(data=st.binary(max_size=2000))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(NotProven):
        unpack(data)
    assert all(not appraisal.verified for appraisal in bundle.appraise(data, request(), None))
