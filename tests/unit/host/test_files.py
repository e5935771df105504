"""Files are written whole or not at all, and removal never reaches into another file system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import VmtoolError
from vmtool.host import files
from vmtool.host.files import mount_points  # before nothing is mounted for the unit tests
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.plan import CopySecret, StopDaemon


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    files.write(path, "old")
    files.write(path, b"new", mode=0o644)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_every_new_directory_is_private(tmp_path: Path) -> None:
    files.write(tmp_path / "a" / "b" / "file", "text")
    files.make_dir(tmp_path / "c" / "d", mode=0o755)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b", "c", "c/d")}
    assert modes == {"a": 0o700, "a/b": 0o700, "c": 0o700, "c/d": 0o755}


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        files.write(path, "new")
    assert error.value.filename == str(path), "whose disk it is must be said"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_removal_takes_trees_files_and_links_but_not_what_links_point_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "tree" / "inner").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("tree", "link", "absent"):
        files.remove(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]


@pytest.mark.parametrize("inside", ["", "/a/b"])
def test_removal_stops_at_a_mount(tmp_path: Path, mounts: list[str], inside: str) -> None:
    (tmp_path / "tree").mkdir()
    mounts.append(f"{tmp_path}/tree{inside}")
    with pytest.raises(VmtoolError, match="is mounted there"):
        files.remove(tmp_path / "tree")
    mounts[0] = f"{tmp_path}/tree-of-another"
    files.remove(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_removal_stops_at_a_mount_below_a_path_with_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree := tmp_path / "vm tool" / "tree").mkdir(parents=True)
    place = str(tree / "a").replace(" ", r"\040")
    monkeypatch.setattr(Path, "read_bytes", lambda path: f"9 1 0:5 / {place} rw - tmpfs \udcff rw\n".encode(
        errors="surrogateescape"))
    monkeypatch.setattr(files, "mount_points", mount_points)
    with pytest.raises(VmtoolError, match="is mounted there") as error:
        files.remove(tree)
    assert error.value.hint == f"umount '{tree}/a'"


def test_a_made_key_is_random_private_and_kept(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        CopySecret(path, os.getuid()).do(FakeHost())
    assert one.read_text() != two.read_text()
    assert len(one.read_text().strip()) == 64
    assert one.stat().st_mode & 0o777 == 0o400
    before = one.read_text()
    CopySecret(one, os.getuid()).do(FakeHost())
    assert one.read_text() == before


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VmtoolError, match="none: No such file"):
        CopySecret(tmp_path / "key", os.getuid(), tmp_path / "none").do(FakeHost())


def test_what_a_killed_write_left_is_not_counted_and_goes_with_the_next_one(tmp_path: Path) -> None:
    left = tmp_path / ".a.7fffffff.tmp"
    for again in (True, False):
        left.write_text("half")
        assert left.name not in LocalMachine().names(str(tmp_path))
        if again:
            files.write(tmp_path / "a", "new")
        else:
            files.remove(tmp_path / "a")
        assert not left.exists()


def test_a_write_of_another_process_or_of_another_file_is_let_alone(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    others = (tmp_path / f".a.{1:08x}.tmp", tmp_path / ".b.7fffffff.tmp", tmp_path / ".a.tmp")
    monkeypatch.setattr(os.path, "exists", lambda path: path == "/proc/1")
    for other in others:
        other.write_text("")
    files.write(tmp_path / "a", "new")
    files.remove(tmp_path / "a")
    assert [other for other in others if not other.is_file()] == []


def test_a_daemon_is_stopped_though_a_killed_write_left_something_among_its_users(tmp_path: Path) -> None:
    """As after a kill at the rename of a user's file: the daemon was never stopped again."""
    users, pidfile = tmp_path / "users", tmp_path / "run" / "daemon.pid"
    for directory in (users, pidfile.parent):
        directory.mkdir()
    (users / ".a.7fffffff.tmp").touch()
    StopDaemon(pidfile, users).do(LocalHost())
    assert not pidfile.parent.exists()
