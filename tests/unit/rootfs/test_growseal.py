"""What a growth takes over of manifest and hashes: only what was right before."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmtool.errors import Refused
from vmtool.rootfs.format.digest import read_content
from vmtool.rootfs.format.hash_tree import BLOCK, Verity, hash_tree
from vmtool.rootfs.format.image_file import MIB
from vmtool.rootfs.format.layout import Geometry, fit
from vmtool.rootfs.grow.updated_hashes import read_preserved_hashes

CHANGES = [(2 * MIB, b"x" * 4096)]
END = 5 * MIB


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Pieces of 1 MiB, the first all zeros, and one behind the file system."""
    path = tmp_path / "i"
    path.write_bytes(b"".join(bytes([number]) * MIB for number in range(6)))
    return path


@pytest.fixture
def opened(image: Path) -> Iterator[int]:
    descriptor = os.open(image, os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def told(image: Path, **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(read_content(image)))
    return found | changes


OLD = Geometry("bare", 6 * MIB, 0, 5 * MIB)


def test_the_new_manifest_is_that_of_the_new_bytes(image: Path, opened: int) -> None:
    for manifest in (told(image), told(image, pieces={})):
        image.write_bytes(b"".join(bytes([number]) * MIB for number in range(6)))
        seal = read_preserved_hashes(opened, OLD, END, None, manifest, CHANGES)
        os.ftruncate(opened, END)
        os.ftruncate(opened, 8 * MIB)
        os.pwrite(opened, CHANGES[0][1], CHANGES[0][0])
        made = json.loads(seal.manifest(opened, None, CHANGES))
        assert made == told(image) | {"sha256": None, "verity": None}


@pytest.mark.parametrize("lie", [{"size": 7 * MIB}, {"content": "0" * 64}, {"content": "0" * 64, "pieces": {}}],
                         ids=["size", "content", "no-pieces"])
def test_a_manifest_of_other_bytes_does_not_become_right(image: Path, opened: int, lie: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="is not what the manifest says") as refused:
        read_preserved_hashes(opened, OLD, END, None, told(image, **lie), CHANGES)
    assert "--copy" in refused.value.hint


def test_a_change_where_the_growth_writes_is_found(image: Path, opened: int) -> None:
    manifest = told(image)
    os.pwrite(opened, b"#", 2 * MIB + 8192)
    with pytest.raises(Refused, match="bytes 2097152 to 3145728 are not what the manifest says"):
        read_preserved_hashes(opened, OLD, END, None, manifest, CHANGES)


def test_hashes_of_a_part_of_the_file_system_or_of_more_than_there_is_are_refused(tmp_path: Path) -> None:
    geometry = fit("kata", 128 * MIB, verity=True)
    path = tmp_path / "i"
    with path.open("w+b") as file:
        file.truncate(geometry.total)
        root, tree = hash_tree(file.fileno(), geometry.start, geometry.size, b"\xaa")
        part, small = hash_tree(file.fileno(), geometry.start, 8 * MIB, b"\xaa")
        file.seek(geometry.hash_start)
        file.write(tree)
        file.flush()
        end, whole = geometry.start + geometry.size, Verity(root, "aa", geometry.size // BLOCK)
        assert read_preserved_hashes(file.fileno(), geometry, end, whole, {}, []).verity == whole
        with pytest.raises(Refused, match="are not those of the manifest's root hash"):
            read_preserved_hashes(file.fileno(), geometry, end, dataclasses.replace(whole, data_blocks=1 << 50), {}, [])
        file.seek(geometry.hash_start)
        file.write(small)
        file.flush()
        with pytest.raises(Refused, match="not of the whole file system"):
            read_preserved_hashes(file.fileno(), geometry, end, Verity(part, "aa", 8 * MIB // BLOCK), {}, [])
