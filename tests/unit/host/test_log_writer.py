"""The writer of a container's log: it keeps to the bound, and a full disk ends nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmtool.host import bounded_log, event_log
from vmtool.host.workers.log_writer import PIECE, LogWriter, pump


@pytest.fixture(name="log")
def new_log(tmp_path: Path) -> LogWriter:
    (tmp_path / "log").mkdir()
    return LogWriter(tmp_path / event_log.GUEST_LOG, tmp_path)


@contextmanager
def full(room: int, number: int = errno.ENOSPC) -> Iterator[None]:
    """A disk that takes so many bytes more."""
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(number, os.strerror(number))
        written = write(descriptor, data[:room])
        room -= written
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", limited)
        yield


def test_both_pipes_are_written_until_they_have_ended(log: LogWriter) -> None:
    (out, said), (err, warned) = os.pipe(), os.pipe()
    for end, text in ((said, b"said\n"), (warned, b"warned\n")):
        os.write(end, text)
        os.close(end)
    pump((out, err), log)
    assert sorted(log.path.read_bytes().splitlines()) == [b"said", b"warned"]
    assert log.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_what_a_full_disk_does_not_take_is_counted_and_it_goes_on(log: LogWriter, number: int) -> None:
    log.write(b"before\n")
    with full(3, number):
        log.write(b"torn\n")
        log.write(b"lost\n")
        log.write(b"lost\n")
    log.write(b"after\n")
    assert log.path.read_text() == f"before\ntor\nvmtool: 12 bytes are missing here: {os.strerror(number)}\nafter\n"
    [event] = event_log.read(log.directory)
    assert (event["event"], event["source"], event["bytes"]) == ("log-lost", "vmtool", 12)


def test_a_log_that_cannot_even_be_made_begins_when_it_can(log: LogWriter) -> None:
    log.path.parent.rename(log.directory / "away")
    log.write(b"lost\n")
    (log.directory / "away").rename(log.path.parent)
    log.write(b"after\n")
    assert log.path.read_text() == "\nvmtool: 5 bytes are missing here: No such file or directory\nafter\n"


def test_it_keeps_to_the_bound_and_to_the_events_that_go_with_it(log: LogWriter,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HEAD", PIECE), ("TAIL", 4 * PIECE), ("MOST", 9 * PIECE)):
        monkeypatch.setattr(bounded_log, name, value)
    monkeypatch.setattr("vmtool.host.workers.log_writer.BETWEEN", PIECE)
    log.write(b"first\n")
    for _ in range(2):  # so that the event is in neither end
        log.write(bytes(PIECE))
    log.write(b'vmtool     1.00 s  event {"at": 1.0, "event": "server-died"}\n')
    for _ in range(100):
        log.write(b"x" * (PIECE - 1) + b"\n")
        assert log.path.stat().st_blocks * 512 <= 11 * PIECE
    assert log.path.read_bytes().startswith(b"first\n")
    assert b"server-died" not in log.path.read_bytes()
    assert [event["event"] for event in event_log.read(log.directory)] == ["server-died"]


def test_a_guest_that_fills_its_log_pushes_out_nothing_that_the_host_saw(log: LogWriter) -> None:
    event_log.record(log.directory, "started")
    for _ in range(3 * event_log.LARGEST // 128):
        with full(0):
            log.write(b"lost\n")
        log.write(b"written\n")
    assert event_log.read(log.directory)[0]["event"] == "started"


def test_a_log_that_somebody_removed_is_there_again(log: LogWriter) -> None:
    log.write(b"before\n")
    log.path.unlink()
    log.write(b"after\n")
    log.path.rename(log.path.with_name("moved"))
    log.write(b"and after\n")
    assert log.path.read_bytes() == b"and after\n"
    assert log.path.with_name("moved").read_bytes() == b"after\n"


def test_what_fails_while_it_is_bounded_costs_no_line(log: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(bounded_log, "bound", fails)
    monkeypatch.setattr("vmtool.host.workers.log_writer.BETWEEN", 1)
    log.write(b"a line\n")
    assert log.path.read_bytes() == b"a line\n"


def test_two_that_take_over_the_same_at_once_show_it_once(log: LogWriter) -> None:
    event = {"at": 1.0, "event": "server-died", "source": "guest"}
    event_log.append(log.directory, [event], event_log.GUEST)
    event_log.append(log.directory, [event], event_log.GUEST)
    assert event_log.read(log.directory) == [event]
