"""Workers on image files, called as the worker process calls them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from tests.unit.rootfs.make import MANIFEST
from vmtool.errors import ProgramFailed, Refused
from vmtool.machine import Output
from vmtool.rootfs.boot.workers import make_initramfs
from vmtool.rootfs.build.workers import extract, insert_file, insert_filesystem, nvidia_modules, run_e2fsck
from vmtool.rootfs.build.workers.driver_archive import modinfo
from vmtool.rootfs.format.digest import content_digest, sha256
from vmtool.rootfs.metadata.lock_file import read_lock
from vmtool.rootfs.metadata.manifest import manifest_text, read_manifest
from vmtool.rootfs.metadata.workers import rewrite_manifest, write_metadata

PIECE, SIZE = 1 << 20, 8 << 20


class Programs(FakeHost):
    """Answers each program with the first answer whose word is among its words; remembers what ran."""

    def __init__(self, **answers: Output | str) -> None:
        super().__init__()
        self.answers = answers
        self.ran: list[list[str]] = []
        self.stdin: list[bytes] = []

    def execute(self, argv: Sequence[str], *, deadline: float, **options: Any) -> Output:
        assert deadline, "each program has a deadline"
        self.ran.append(list(argv))
        self.stdin += [options["stdin"]] if options.get("stdin") else []
        found = next((answer for word, answer in self.answers.items() if any(word in each for each in argv)), "")
        output = found if isinstance(found, Output) else Output(0, found, "")
        if out := options.get("stdout"):
            out.write_text(output.out)
        return output

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return self.execute(argv, deadline=deadline)


def sparse(path: Path, **pieces: bytes) -> Path:
    """A file of SIZE bytes; `p3=b"x"` puts bytes at the third MiB."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        for name, data in pieces.items():
            file.seek(int(name[1:]) * PIECE)
            file.write(data)
    return path


def test_a_piece_comes_out_and_goes_in_again_with_its_holes(tmp_path: Path) -> None:
    image, piece, other = sparse(tmp_path / "i", p1=b"one", p5=b"five"), tmp_path / "p", sparse(tmp_path / "o")
    extract.run(extract.Order(image, PIECE, 4 * PIECE, piece), FakeHost())
    assert (piece.stat().st_size, piece.stat().st_mode & 0o777) == (4 * PIECE, 0o600)
    assert piece.read_bytes()[:3] == b"one" and b"five" not in piece.read_bytes()
    assert piece.stat().st_blocks < 1024
    insert_filesystem.run(insert_filesystem.Order(piece, other, 2 * PIECE, 4 * PIECE), FakeHost())
    assert other.read_bytes()[2 * PIECE:2 * PIECE + 3] == b"one"
    assert other.stat().st_size == SIZE


def test_a_file_system_that_has_no_room_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    piece, image = sparse(tmp_path / "p", p0=b"x"), sparse(tmp_path / "i")
    with pytest.raises(Refused, match=f"has {SIZE} bytes, and the image has room for 7") as error:
        insert_filesystem.run(insert_filesystem.Order(piece, image, 0, 7), FakeHost())
    assert "size" in error.value.hint
    assert image.read_bytes() == bytes(SIZE)


@pytest.mark.parametrize(("status", "fails"), [(0, False), (1, False), (2, True), (4, True), (8, True), (-9, True)])
def test_errors_that_e2fsck_corrected_are_no_failure(status: int, fails: bool) -> None:
    host = Programs(e2fsck=Output(status, "one\ntwo\n", ""))
    order = run_e2fsck.Order(("e2fsck", "-fp", "/i"))
    if not fails:
        run_e2fsck.run(order, host)
    else:
        with pytest.raises(ProgramFailed) as error:
            run_e2fsck.run(order, host)
        assert error.value.details == ("one", "two")
    assert host.ran == [["e2fsck", "-fp", "/i"]]


STAT = "Inode: 12   Type: regular    Mode:  0640   Flags: 0x80000\nSize: 5\n"


def test_a_file_is_put_in_by_debugfs_and_read_back(tmp_path: Path) -> None:
    source = tmp_path / "motd"
    source.write_text("hello")
    order = insert_file.Order(tmp_path / "i", 4096, source, "/etc/new/motd", 0o640, ("debugfs",))
    host = Programs(**{'stat "/etc"': "Type: directory", 'stat "/etc/new/motd"': STAT})
    insert_file.run(order, host)
    [commands] = host.stdin
    assert commands.decode().splitlines() == [
        'mkdir "/etc/new"', 'cd "/etc/new"', 'rm "motd"', f'write "{source}" "motd"',
        'set_inode_field "motd" mode 0100640', 'set_inode_field "motd" uid 0', 'set_inode_field "motd" gid 0']
    assert host.ran[-1][-1] == f"{tmp_path}/i?offset=4096"


@pytest.mark.parametrize("seen", ["", STAT.replace("regular", "directory"), STAT.replace("0640", "0600"),
                                  STAT.replace("Size: 5", "Size: 55")])
def test_a_file_that_did_not_get_in_is_told_in_debugfs_words(tmp_path: Path, seen: str) -> None:
    (tmp_path / "motd").write_text("hello")
    answers: dict[str, Output | str] = {'stat "/motd"': seen, "-w": Output(0, "", "write: No space left\n")}
    host = Programs(**answers)
    with pytest.raises(ProgramFailed, match="/motd did not get into the image") as error:
        insert_file.run(insert_file.Order(tmp_path / "i", 0, tmp_path / "motd", "/motd", 0o640, ("debugfs",)), host)
    assert error.value.details == ("write: No space left",)


def test_the_manifest_of_a_changed_image_has_its_new_bytes_hashes_and_hook(tmp_path: Path) -> None:
    image, old, out, verity = (tmp_path / name for name in ("i", "old.json", "new.json", "verity.json"))
    sparse(image, p2=b"x")
    old.write_text(manifest_text(MANIFEST.model_copy(update={"sha256": "d" * 64})))
    rewrite_manifest.run(rewrite_manifest.Order(old, image, out, verity), FakeHost())
    plain = read_manifest(out)
    assert (plain.size, plain.content, plain.sha256, plain.verity) == (SIZE, content_digest(image), None, None)
    verity.write_text(json.dumps({"root_hash": "e" * 64, "salt": "aabb", "data_blocks": 7}))
    rewrite_manifest.run(rewrite_manifest.Order(old, image, out, verity, "/h/n.sh"), FakeHost())
    changed = read_manifest(out)
    assert changed.verity and changed.verity.kernel_verity_params.startswith(f"root_hash={'e' * 64},salt=aabb,")
    assert changed.promises.hook == "/h/n.sh"
    assert changed.name == MANIFEST.name


def described(directory: Path, **changes: Any) -> write_metadata.Order:
    """The order of a build, with what it left in its directory."""
    sparse(directory / "rootfs.img", p1=b"x")
    (directory / "layer.json").write_text('{"kernel": "6.1"}')
    (directory / "packages.txt").write_text("Package: curl\nVersion: 7.88\nArchitecture: amd64\n")
    given: dict[str, Any] = {"packages": directory / "packages.txt", "target": "multi-user.target"} | changes
    return write_metadata.Order(directory, "tiny", "a" * 64, "amd64", "bare", "ext4", 7, **given)


def test_a_built_image_has_manifest_lock_and_list(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("agent")
    write_metadata.run(described(tmp_path, agent=tmp_path / "agent", units=("x.service",), modules=("nvidia",)),
                       FakeHost())
    found = read_manifest(tmp_path / "manifest.json")
    assert (found.name, found.kernel, found.epoch, found.sha256) == ("tiny", "6.1", 7, sha256(tmp_path / "rootfs.img"))
    assert (found.promises.agent, found.promises.units, found.promises.target) == (True, ("x.service",),
                                                                                  "multi-user.target")
    assert found.agent_sha256 == sha256(tmp_path / "agent")
    assert [each.name for each in read_lock(tmp_path / "lock.json")[0]] == ["curl"]
    assert "curl" in (tmp_path / "spdx.json").read_text()
    assert {os.stat(tmp_path / f"{name}.json").st_mode & 0o777 for name in ("manifest", "lock", "spdx")} == {0o644}


def test_an_image_without_the_toolkit_that_was_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"nvidia-container-toolkit \(absent\) is refused"):
        write_metadata.run(described(tmp_path, toolkit=True), FakeHost())
    assert not (tmp_path / "manifest.json").exists()


def test_modules_that_somebody_compiled_must_be_there_and_tell_their_kernel(tmp_path: Path) -> None:
    module = tmp_path / "nvidia.ko"
    module.write_bytes(b"\0vermagic=6.2 SMP\0\0version=550.1\0")
    assert modinfo(module) == ("6.2 SMP", "550.1")
    order = nvidia_modules.Order(tmp_path / "b.tar", tmp_path, ("depmod",), tmp_path / "t", modules=tmp_path / "absent")
    with pytest.raises(Refused, match=r"no nvidia\*\.ko in it"):
        nvidia_modules.run(order, Programs())


def test_an_initramfs_has_the_images_modules_in_their_order(tmp_path: Path) -> None:
    directory, busybox = tmp_path / "d", tmp_path / "busybox"
    directory.mkdir()
    (directory / "init").write_text("#!/bin/busybox sh")
    (directory / "modules").write_text("extra\n")
    busybox.write_text("bb")
    host = Programs(**{"ls -p": "/2/40755/0/0/6.1//\n/3/40755/0/0/../\n",
                       "modules.dep": "kernel/ext4.ko: kernel/jbd2.ko\nkernel/jbd2.ko:\nkernel/extra.ko:\n",
                       "cat": "module bytes"})
    order = make_initramfs.Order(tmp_path / "i", "ext4", 4096, busybox, directory, tmp_path / "out", ("debugfs",))
    make_initramfs.run(order, host)
    data = (tmp_path / "out").read_bytes()
    assert b"jbd2.ko\next4.ko\nextra.ko\n" in data
    assert data.count(b"module bytes") == 3
    assert b"init\0" in data and b"TRAILER!!!\0" in data
    assert {words[-1] for words in host.ran} == {f"{tmp_path}/i?offset=4096"}


def test_a_file_system_that_no_reader_is_for_is_refused(tmp_path: Path) -> None:
    order = make_initramfs.Order(tmp_path / "i", "xfs", 0, tmp_path, tmp_path, tmp_path / "out", ("x",))
    with pytest.raises(Refused, match="holds xfs, not ext4 or erofs"):
        make_initramfs.run(order, Programs())
