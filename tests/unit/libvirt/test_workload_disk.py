"""A container image as a disk: made once, whole or not at all, with the image's own environment beside it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.host import FakeHost
from vmtool.errors import ProgramFailed, VerificationFailed, VmtoolError
from vmtool.libvirt.workers import workload_disk
from vmtool.libvirt.workers.image_store import Store
from vmtool.libvirt.workers.workload_disk import Order, finding_driver, make_disk, quoted, run, size_of
from vmtool.machine import Output

WHOLE = b"disk" * 1024
IMAGE = "docker.io/vmtool/x:latest"
INDEX, AMD, ARM, CONFIG = (f"sha256:{letter * 64}" for letter in "abcd")
CHAIN = f"sha256:{'e' * 64}"
DOCUMENTS: dict[str, Any] = {
    INDEX: {"manifests": [{"digest": ARM, "platform": {"architecture": "arm64"}},
                          {"digest": AMD, "platform": {"architecture": "amd64"}}]},
    AMD: {"config": {"digest": CONFIG}}, ARM: {"config": {"digest": INDEX}},
    CONFIG: {"config": {"Env": ["PATH=/usr/bin:/bin", 'Q=say "$HOME" \\ `x`', "EMPTY="]}},
}


class Programs(FakeHost):
    """ctr with a content store and one image; mke2fs and veritysetup."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.documents = dict(DOCUMENTS)
        self.listed = f"REF TYPE DIGEST SIZE\n{IMAGE} application/vnd.oci.image.index.v1+json {INDEX} 1.2 GiB\n"
        self.parent = CHAIN
        self.full = False
        self.made: list[str] = []
        self.fixed: list[str] = []
        self.mounted: Path | None = None

    def execute(self, argv: Sequence[str], *, deadline: float, **options: Any) -> Output:
        assert deadline, "each program has a deadline"
        words = list(argv)
        self.calls.append(" ".join(words[2:4] if words[0] == "ctr" else words[:1]))
        try:
            return Output(0, self._answer(words), "")
        except LookupError as error:
            return Output(1, "", str(error))

    def _answer(self, words: list[str]) -> str:
        match words:
            case ["mke2fs", *_, disk, _]:
                self.made = words
                Path(disk).write_bytes(b"half" if self.full else WHOLE)
                if self.full:
                    raise LookupError("No space left on device")
            case ["ctr", "--address=x", "images", "list", *_]:
                return self.listed
            case ["ctr", "--address=x", "snapshots", "info", tree]:
                assert self.mounted == Path(tree)
                return json.dumps({"Kind": "Active", "Name": tree, "Parent": self.parent})
            case ["ctr", "--address=x", "content", "get", digest]:
                return json.dumps(self.documents[digest])
            case ["ctr", "--address=x", "images", "mount", "--rw", _, tree]:
                self.mounted = Path(tree)
                (self.mounted / "etc").mkdir()
                (self.mounted / "etc" / "passwd").write_text("root")
            case ["ctr", "--address=x", "images", "unmount", "--rm", tree]:
                assert self.mounted == Path(tree)
                self.mounted = None
            case _:
                return self._verified(words)
        return ""

    def _verified(self, words: list[str]) -> str:
        """What makes a disk that can be verified."""
        match words:
            case ["dumpe2fs", _]:
                return "Inode count:              16\n  Free inodes: 13-14, 16\n"
            case ["debugfs", "-w", "-f", script, _]:
                self.fixed = re.findall(r"<(\d+)> atime @", Path(script).read_text())
                return ""
            case ["veritysetup", "format", *_]:
                return f"Root hash:      {'e' * 64}\n"
        raise AssertionError(words)


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    monkeypatch.setattr("vmtool.libvirt.workers.image_store.platform.machine", lambda: "x86_64")
    return Programs()


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """With the directories that the plan makes."""
    for name in ("tree", "cache", "a"):
        (tmp_path / name).mkdir()
    return Order(IMAGE, INDEX, CHAIN, True, tmp_path / "tree", tmp_path / "cache", tmp_path / "a",
                 ("ctr", "--address=x"))


def test_the_disk_is_made_and_linked(programs: Programs, order: Order, tmp_path: Path) -> None:
    run(order, programs)
    [disk] = (tmp_path / "cache").glob("*.ext4")
    assert disk.name == f"{'a' * 64}-{workload_disk.FORMAT}-verity.ext4"
    assert (tmp_path / "a" / "workload.img").samefile(disk)
    assert programs.fixed == ["2", "11", "12", "15"], "the root and every inode in use"
    assert disk.stat().st_mode & 0o777 == 0o644, "QEMU may run as a user of its own"
    assert programs.mounted is None
    assert (tmp_path / "tree" / "models" / "local").is_dir(), "nobody can make it later: the disk is read-only"
    assert (tmp_path / "a" / "environment").read_text().splitlines() == [
        'PATH="/usr/bin:/bin"', 'Q="say \\"\\$HOME\\" \\\\ \\`x\\`"', 'EMPTY=""',
        'LD_LIBRARY_PATH="/usr/local/nvidia/lib64"']


def test_without_verity_nothing_is_hashed(programs: Programs, order: Order, tmp_path: Path) -> None:
    run(replace(order, verity=False), programs)
    assert "veritysetup" not in programs.calls
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"workload.img", "environment"}


def test_it_is_made_once_for_all_instances(programs: Programs, order: Order, tmp_path: Path) -> None:
    run(order, programs)
    programs.calls.clear()
    (tmp_path / "b").mkdir()
    run(replace(order, directory=tmp_path / "b"), programs)
    run(replace(order, directory=tmp_path / "b"), programs)  # over what a killed one left
    assert "mke2fs" not in programs.calls
    assert "images mount" not in programs.calls
    assert (tmp_path / "b" / "workload.img").samefile(tmp_path / "a" / "workload.img")


def test_a_full_disk_leaves_neither_half_a_disk_nor_a_mount(programs: Programs, order: Order,
                                                           tmp_path: Path) -> None:
    programs.full = True
    with pytest.raises(ProgramFailed, match="mke2fs: No space left on device"):
        run(order, programs)
    assert list((tmp_path / "cache").iterdir()) == []
    assert programs.mounted is None
    programs.full = False
    (tmp_path / "cache" / f"{'a' * 64}-{workload_disk.FORMAT}-verity.new").write_text("left by a kill")
    (tmp_path / "tree" / "etc" / "passwd").unlink()
    (tmp_path / "tree" / "etc").rmdir()
    run(order, programs)
    assert [path.read_bytes() for path in (tmp_path / "cache").glob("*.ext4")] == [WHOLE]
    assert not list((tmp_path / "cache").glob("*.new"))


def test_disks_of_images_that_are_gone_go_unless_an_instance_has_them(programs: Programs, order: Order,
                                                                      tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for name in ("gone.ext4", "gone.verity", "used.ext4", "used.verity", "half.new"):
        (cache / name).write_text("")
    (tmp_path / "used").hardlink_to(cache / "used.ext4")
    run(order, programs)
    assert {path.name for path in cache.iterdir()} == {
        "used.ext4", "used.verity",
        *(f"{'a' * 64}-{workload_disk.FORMAT}-verity.{kind}" for kind in ("ext4", "verity"))}


def test_an_image_whose_name_was_moved_becomes_no_disk(programs: Programs, order: Order, tmp_path: Path) -> None:
    programs.parent = "sha256:" + "0" * 64
    with pytest.raises(VerificationFailed, match=f"{IMAGE} was moved"):
        run(order, programs)
    assert list((tmp_path / "cache").iterdir()) == []
    assert programs.mounted is None


def test_what_ctr_says_is_told(programs: Programs) -> None:
    del programs.documents[CONFIG]
    with pytest.raises(ProgramFailed, match="ctr content get: 'sha256:dddd"):
        Store(programs, ("ctr", "--address=x")).environment(INDEX)


def test_the_environment_is_that_of_the_image_for_this_machine(programs: Programs) -> None:
    store = Store(programs, ("ctr", "--address=x"))
    assert store.environment(AMD) == store.environment(INDEX) == DOCUMENTS[CONFIG]["config"]["Env"]
    programs.documents[INDEX] = {"manifests": [{"digest": AMD}]}
    assert store.environment(INDEX) == DOCUMENTS[CONFIG]["config"]["Env"], "an index may name no platform"
    programs.documents[CONFIG] = {}
    assert store.environment(AMD) == []
    programs.documents[AMD] = ["no", "manifest"]
    with pytest.raises(VmtoolError, match="is no document"):
        store.environment(AMD)


def test_the_disk_has_room_for_what_is_in_the_tree(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "large").write_bytes(b"")
    os.truncate(tmp_path / "t" / "large", 1 << 30)
    (tmp_path / "t" / "link").symlink_to("/etc/passwd")
    for number in range(50):
        (tmp_path / "t" / str(number)).write_text("x")
    size, files = size_of(tmp_path / "t")
    assert files == 52
    assert size >= (1 << 30) + 51 * 4096
    make_disk(programs, tmp_path / "t", tmp_path / "disk.ext4")
    seen = programs.made
    assert int(seen[-1].removesuffix("k")) << 10 > size * 1.1
    assert int(seen[seen.index("-N") + 1]) > files


def read_environment(line: str) -> tuple[str, str]:
    """One quoted line of an EnvironmentFile, as systemd's parser reads it: in double quotes a backslash protects only
    the characters that a shell would take, and before others it stands for itself."""
    name, _, rest = line.partition("=")
    assert rest.startswith('"')
    value, place = "", 1
    while rest[place] != '"':
        if rest[place] == "\\" and rest[place + 1] in '"\\`$':
            place += 1
        value += rest[place]
        place += 1
    assert place == len(rest) - 1, "nothing stands behind the closing quote"
    return name, value


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_whatever_a_value_holds_systemd_reads_it_back(value: str) -> None:
    assert read_environment(quoted(f"NAME={value}")) == ("NAME", value)


@pytest.mark.parametrize(("lines", "expected"), [
    (["A=1"], ["A=1", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"]),
    (["LD_LIBRARY_PATH=/a::/b", "A=1"], ["A=1", "LD_LIBRARY_PATH=/a:/b:/usr/local/nvidia/lib64"]),
    (["LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64"],
     ["LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64"]),
])
def test_the_guests_nvidia_libraries_are_found_after_the_images_own(lines: list[str], expected: list[str]) -> None:
    assert finding_driver(lines) == expected
