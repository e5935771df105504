"""The same files give the same disk, and so the same root hash, whenever they were read and changed on this host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vmtool.host.local import LocalHost
from vmtool.libvirt.verity_table import root_hash_of
from vmtool.libvirt.workers.workload_disk import make_disk


def test_the_same_files_give_the_same_root_hash(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two", "other"):
        tree = tmp_path / name / "tree"
        for number in range(200):
            file = tree / f"d{number % 7}" / f"f{number}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name == 'other' and number == 99}{number}")
            os.utime(file, (1_600_000_000 + (name == "two") * number, 1_500_000_000))
        for path in tree.rglob("d*"):
            os.utime(path, (1_600_000_000 + (name == "two"), 1_500_000_000))
        os.utime(tree, (1, 1_500_000_000))
        disk = tmp_path / name / "disk.img"
        make_disk(LocalHost(sys.stdout), tree, disk, verity=True)
        hashes.append(root_hash_of(disk.with_suffix(".verity").read_text()))
    assert len(hashes[0]) == 64
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]
