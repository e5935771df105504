"""What a growth looks at before it writes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from tests.unit.rootfs.make import image, superblock
from vmtool.errors import NotReady, Refused
from vmtool.rootfs.format.block_groups import FilesystemMetadata, Group, Read
from vmtool.rootfs.format.image_file import undo_file_path
from vmtool.rootfs.format.layout import Geometry, fit
from vmtool.rootfs.grow import scratch_filesystem
from vmtool.rootfs.grow.workers.grow_in_place import Order, run

GIB = 1 << 30
BOOKS = FilesystemMetadata(4096, 0, 100, 32768, 10, True, 1, 0, (Group(50, 51, 52, True),))


def order(path: Path, old: Geometry, new: Geometry) -> Order:
    return Order(path, old, new, None, None, ("resize2fs",), ("e2fsck", "-fn", str(path)))


@pytest.mark.parametrize(("changes", "size"), [
    ({"state": 2}, None), ({"reserved": 0}, None), ({"per_group": 1}, None), ({}, GIB + 4096), ({}, GIB - 4096)])
def test_an_image_that_was_changed_since_the_plan_is_left_alone(tmp_path: Path, changes: dict[str, Any],
                                                                size: int | None) -> None:
    old, new = fit("bare", GIB, verity=False), fit("bare", 20 * GIB, verity=False)
    path = image(tmp_path / "i.img", old, superblock(GIB, **changes), size=size)
    before = path.stat()
    with pytest.raises(NotReady, match="was changed since it was looked at"):
        run(order(path, old, new), FakeHost())
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert os.listdir(tmp_path) == ["i.img"]


def test_an_image_whose_growth_was_interrupted_is_not_grown(tmp_path: Path) -> None:
    path = image(tmp_path / "i.img", fit("bare", GIB, verity=False))
    undo_file_path(path).symlink_to("nowhere")
    with pytest.raises(Refused, match="was interrupted"):
        run(order(path, fit("bare", GIB, verity=False), fit("bare", GIB, verity=False)), FakeHost())


def changed(monkeypatch: pytest.MonkeyPatch, old: dict[int, bytes], new: dict[int, bytes]) -> list[tuple[int, int]]:
    """(place, length) in blocks of what a growth from 100 to 200 blocks changes; each block has one byte here."""
    def reader(blocks: dict[int, bytes]) -> Read:
        def read(at: int, length: int) -> bytes:
            return b"".join(blocks.get(number, b"\0") * 4096 for number in range(at // 4096, (at + length) // 4096))
        return read

    monkeypatch.setattr(scratch_filesystem, "_newly_used", lambda books, old, new: set())
    written = [(number * 4096, (number + 1) * 4096) for number in new]
    found = scratch_filesystem._compare(BOOKS, reader(old), reader(new), written, lambda at, length: True)
    return [(at // 4096, len(data) // 4096) for at, data in found]


def test_zeros_behind_the_old_end_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    new = {50: b"b", 99: b"\0", 150: b"\0", 151: b"x", 152: b"y", 153: b"\0"}
    assert changed(monkeypatch, {50: b"a", 99: b"d"}, new) == [(50, 1), (151, 2)]


def test_a_block_of_somebody_elses_is_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match="would change block 99, which is not its own"):
        changed(monkeypatch, {99: b"d"}, {99: b"e"})
