"""The hash tree against veritysetup's, recorded; and the room that it takes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.rootfs.format.digest import content_digest, sha256
from vmtool.rootfs.format.hash_tree import BLOCK, Verity, hash_tree, level_blocks
from vmtool.rootfs.format.image_file import MIB
from vmtool.rootfs.format.layout import KINDS, Kind, fit

# veritysetup 2.7.5 format --no-superblock --salt=aabbcc --data-blocks=300, on the data of `data`.
ROOT = "1b7e737fc83c4b582ec107b9eac8f2e3e0e3fff976859295e46ff6c449795147"
TREE = "c51cf055cd043a2385c6be723a88816f320bbac20af4d75aff7b18e27372bea0"


def data() -> bytes:
    return b"".join(number.to_bytes(4, "big") * 1024 if number % 3 else bytes(BLOCK) for number in range(300))


@pytest.mark.parametrize("start", [0, 3 * MIB])
def test_the_tree_is_veritysetups(tmp_path: Path, start: int) -> None:
    path = tmp_path / "data"
    with path.open("wb") as file:
        file.truncate(start)
        file.seek(start)
        file.write(data())
    with path.open("rb") as file:
        root, tree = hash_tree(file.fileno(), start, 300 * BLOCK, bytes.fromhex("aabbcc"))
    assert (root, hashlib.sha256(tree).hexdigest()) == (ROOT, TREE)


def test_holes_hash_as_zeros(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    full.write_bytes(bytes(40 * BLOCK) + b"x" * BLOCK + bytes(2 * MIB))
    with sparse.open("wb") as file:
        file.seek(40 * BLOCK)
        file.write(b"x" * BLOCK)
        file.truncate(full.stat().st_size)
    trees = []
    for path in (sparse, full):
        with path.open("rb") as file:
            trees.append(hash_tree(file.fileno(), 0, full.stat().st_size, b"salt"))
    assert trees[0] == trees[1]
    assert content_digest(sparse) == content_digest(full)
    assert sha256(sparse) == sha256(full) == hashlib.sha256(full.read_bytes()).hexdigest()


def test_a_moved_block_changes_the_content_digest(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"x" + bytes(3 * MIB))
    other.write_bytes(bytes(MIB) + b"x" + bytes(2 * MIB))
    os.truncate(other, one.stat().st_size)
    assert content_digest(one) != content_digest(other)


@pytest.mark.parametrize(("blocks", "levels"), [(1, [1]), (128, [1]), (129, [2, 1]), (128 * 128 + 1, [129, 2, 1])])
def test_levels(blocks: int, levels: list[int]) -> None:
    assert level_blocks(blocks) == levels


def test_kata_gets_all_five_values() -> None:
    line = Verity("ab" * 32, "cd", 7).kernel_params
    assert line == f"root_hash={'ab' * 32},salt=cd,data_blocks=7,data_block_size=4096,hash_block_size=4096"


@given(st.sampled_from([kind for kind in KINDS if kind != "bare"]), st.integers(1, 200))
def test_hashes_always_fit_behind_the_data(kind: Kind, grains: int) -> None:
    geometry = fit(kind, grains * 128 * MIB, verity=True)
    assert geometry.start + geometry.size == geometry.hash_start
    assert geometry.hash_start + geometry.hash_size <= geometry.total
    assert geometry.hash_size >= sum(level_blocks(geometry.size // BLOCK)) * BLOCK


@pytest.mark.parametrize(("kind", "total", "verity", "message"), [
    ("bare", 256 * MIB, True, "partition 2"), ("kata-dax", 4 * MIB, False, "too small")])
def test_what_does_not_fit_is_refused(kind: Kind, total: int, verity: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(kind, total, verity=verity)
