"""The undo of a growth: what it trusts, what it refuses, and that it leaves every byte as it was."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.host import files, leases, safe_open
from vmtool.rootfs.format.image_file import manifest_path, undo_file_path
from vmtool.rootfs.grow.undo_file import Piece, create, find, unfinished
from vmtool.rootfs.grow.workers import roll_back

OLD, NEW, TAIL = b"o" * 4096, b"n" * 4096, b"t" * 1000
SIZE, END = 65536, 32768


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Old bytes, a hole behind the file system, and a tail."""
    path = tmp_path / "i.img"
    with path.open("wb") as file:
        file.write(OLD * 2)
        file.seek(SIZE - len(TAIL))
        file.write(TAIL)
    return path


@contextlib.contextmanager
def growing(image: Path, **head: object) -> Iterator[None]:
    """Two blocks change, one of them to zeros, then a hole gets bytes, and the tail goes."""
    pieces = [Piece(0, OLD, NEW), Piece(4096, OLD, bytes(4096)), Piece(16384, bytes(4096), NEW),
              Piece(SIZE - len(TAIL), TAIL)]
    with create(image, {"size": SIZE, "times": [1, 2 * 10**9], "end": END, **head}, pieces):
        yield


def grown(image: Path, **head: object) -> bytes:
    """Grow it, and be killed before the hole gets its bytes; the bytes that it had."""
    before = image.read_bytes()
    with growing(image, **head), image.open("r+b") as file:
        file.truncate(END)
        file.truncate(2 * SIZE)
        file.write(NEW)
        file.write(bytes(4096))
        file.seek(END + 100)                           # where a hole was
        file.write(NEW)
    return before


def test_every_byte_is_as_it_was_and_holes_are(image: Path) -> None:
    allocated, before = image.stat().st_blocks, grown(image)
    roll_back.restore(image)
    assert (image.read_bytes(), image.stat().st_mtime_ns) == (before, 2 * 10**9)
    assert image.stat().st_blocks == allocated
    assert os.listdir(image.parent) == [image.name]
    roll_back.restore(image)


def test_an_image_that_is_as_it_was_is_not_written_to(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may have been let in before the first write."""
    with growing(image):
        pass
    monkeypatch.setattr(os, "pwrite", None)
    monkeypatch.setattr(os, "ftruncate", None)
    roll_back.restore(image)
    assert not undo_file_path(image).exists()


def test_the_removal_of_the_undo_file_is_durable(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Path, bool]] = []
    with growing(image):
        monkeypatch.setattr(files, "sync_directory", lambda path: seen.append((path, undo_file_path(image).exists())))
    roll_back.restore(image)
    assert seen == [(image.parent, False)]


def test_a_power_cut_leaves_any_mixture_of_sectors(image: Path) -> None:
    before = grown(image)
    with image.open("r+b") as file:
        for at in (512, 2048, 4096 + 1024):
            file.seek(at)
            file.write(OLD[:512])
    roll_back.restore(image)
    assert image.read_bytes() == before


@pytest.mark.parametrize("at", [0, 4000, 5000])
def test_a_sector_that_is_neither_old_nor_new_shows_another_hand(image: Path, at: int) -> None:
    grown(image)
    with image.open("r+b") as file:
        file.seek(at)
        file.write(b"#")
    changed = image.read_bytes()
    with pytest.raises(Refused, match="not the file that was being grown any more, or was changed since") as refused:
        roll_back.restore(image)
    assert refused.value.hint.endswith(f"rm {undo_file_path(image)}")
    assert image.read_bytes() == changed
    assert undo_file_path(image).exists()


@pytest.mark.parametrize("cut", [1, 33, 1500, 12000])
def test_an_undo_file_that_is_not_whole_changes_nothing(image: Path, cut: int) -> None:
    grown(image)
    grow_interrupted = image.read_bytes()
    os.truncate(undo_file_path(image), undo_file_path(image).stat().st_size - cut)
    with pytest.raises(Refused, match="is not whole"):
        roll_back.restore(image)
    undo_file_path(image).write_bytes(b"{}\n")
    with pytest.raises(Refused, match="is not whole"):
        roll_back.restore(image)
    assert image.read_bytes() == grow_interrupted


def test_a_planted_undo_file_changes_nothing(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grown(image)
    grow_interrupted = image.read_bytes()
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(Refused, match="belongs to another user"):
            roll_back.restore(image)
    undo_file_path(image).rename(tmp_path / "elsewhere")
    undo_file_path(image).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused, match="not a regular file"):
        roll_back.restore(image)
    undo_file_path(image).unlink()
    os.mkfifo(undo_file_path(image))
    with pytest.raises(Refused, match="not a regular file"):
        roll_back.restore(image)
    assert image.read_bytes() == grow_interrupted


def test_a_planted_link_is_not_written_through(image: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("root's")
    unfinished(image).symlink_to(target)
    with growing(image):
        pass
    assert target.read_text() == "root's"
    assert not undo_file_path(image).is_symlink()


def test_an_image_that_is_a_link_or_a_pipe_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("i.img")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(Refused, match="not a regular file"), leases.alone(tmp_path / name):
            pass


def test_another_vmtools_growth_is_not_undone(image: Path) -> None:
    with growing(image), pytest.raises(NotReady, match="another vmtool is growing"):
        roll_back.restore(image)
    with growing(image), find(image.with_name("other")) as none:
        assert none is None


def test_an_image_that_is_gone_is_told(image: Path) -> None:
    grown(image)
    image.unlink()
    with pytest.raises(Refused, match="it is not there any more") as refused:
        roll_back.restore(image)
    assert f"rm {undo_file_path(image)}" in refused.value.hint


@pytest.mark.parametrize(("kept", "left"), [("old", "old"), (None, None)])
def test_only_the_manifest_beside_it_comes_back_with_its_mode(image: Path, kept: str | None,
                                                              left: str | None) -> None:
    manifest = manifest_path(image)
    grown(image, manifest=kept)
    manifest.write_text("new")
    manifest.chmod(0o600)
    roll_back.restore(image)
    assert (manifest.read_text() if manifest.exists() else None) == left
    if left:
        assert manifest.stat().st_mode & 0o777 == 0o600


def test_a_manifest_keeps_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda descriptor, uid, gid: changed.append((uid, gid)))
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: changed.append((uid, gid)))
    path = tmp_path / "m"
    path.write_text("old")
    path.chmod(0o640)
    safe_open.rewrite(path, "new")
    status = path.stat()
    assert (path.read_text(), status.st_mode & 0o777) == ("new", 0o640)
    assert changed == [(status.st_uid, -1), (-1, status.st_gid)]


def test_a_disk_that_is_full_is_told_without_a_copy(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(roll_back, "restore", full)
    with pytest.raises(VmtoolError, match=rf"^{image}: no space left on device$") as error:
        roll_back.run(roll_back.Order(image), FakeHost())
    assert error.value.hint == f"make room there: df -h {image.parent}"


def test_a_full_disk_leaves_no_half_undo_file(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"), growing(image):
        pass
    assert os.listdir(image.parent) == [image.name]


def test_who_waits_to_write_is_noticed(image: Path) -> None:
    with leases.alone(image) as held:
        held.check()
        with pytest.raises(BlockingIOError):
            os.open(image, os.O_RDONLY | os.O_NONBLOCK)
        held.check()
        with pytest.raises(BlockingIOError):
            os.open(image, os.O_RDWR | os.O_NONBLOCK)
        with pytest.raises(NotReady, match="another process opened it"):
            held.check()
    with leases.unwritten(image), image.open("rb"), pytest.raises(BlockingIOError):
        os.open(image, os.O_RDWR | os.O_NONBLOCK)


@pytest.mark.parametrize(("number", "leased"), [(errno.EINVAL, False), (errno.EACCES, None), (errno.EIO, None)])
def test_only_a_file_system_without_leases_does_without(image: Path, monkeypatch: pytest.MonkeyPatch, number: int,
                                                        leased: bool | None) -> None:
    def refuse(*arguments: int) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "fcntl", refuse)
    if leased is None:
        with pytest.raises((NotReady, OSError)), leases.alone(image):
            pass
        return
    with leases.alone(image) as held:
        assert held.leased is leased
        held.check()
