"""Reading and writing in real children, on files of the test's own: what answers, what fails, what never comes back."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from vmtool.errors import ProgramFailed
from vmtool.gpu import sysfs_writes
from vmtool.gpu.actions import ExpectDriver, WriteSysfs
from vmtool.host import device_writes
from vmtool.host.device_writes import DeviceWriteProcess
from vmtool.host.guarded_reads import read_with_deadline
from vmtool.host.local import LocalHost
from vmtool.machine import DeviceWrite

BDF, OTHER = "0000:01:00.0", "0000:02:00.0"


class Here(LocalHost):
    """This machine, in a boot of a known name."""

    def text(self, path: str) -> str | None:
        return "this boot\n" if path == sysfs_writes.BOOT_ID else super().text(path)


def device(tmp_path: Path, bdf: str, driver: str = "") -> Path:
    path = tmp_path / bdf
    path.mkdir()
    (path / "driver_override").write_text("")
    if driver:
        (tmp_path / driver).mkdir(exist_ok=True)
        (path / "driver").symlink_to(tmp_path / driver)
    return path


def hanging(path: Path) -> Path:
    """A file whose opening for writing waits until someone reads, and the other way round."""
    os.mkfifo(path)
    return path


def test_each_device_gets_its_writes_in_order(tmp_path: Path) -> None:
    one, two = device(tmp_path, BDF), device(tmp_path, OTHER)
    log = io.StringIO()
    WriteSysfs(((f"{one}/driver_override", "a"), (f"{two}/driver_override", "b"),
                            (f"{one}/driver_override", "vfio-pci")), marks=tmp_path / "marks").do(Here(log))
    assert ((one / "driver_override").read_text(), (two / "driver_override").read_text()) == ("vfio-pci\n", "b\n")
    assert log.getvalue().splitlines()[0] == f"$ echo a > {one}/driver_override"


@pytest.mark.parametrize("driver, condition, written", [
    ("nvidia", "nvidia", True), ("nvidia", "vfio-pci", False), ("nvidia", "*", True), ("nvidia", "", False),
    ("", "", True), ("", "nvidia", False), ("", "*", True),
])
def test_a_condition_is_looked_at_right_before_the_write(tmp_path: Path, driver: str, condition: str,
                                                         written: bool) -> None:
    path = device(tmp_path, BDF, driver)
    WriteSysfs(((f"{path}/driver_override", "x"),), ((str(path), condition),), tmp_path / "marks").do(Here())
    assert ((path / "driver_override").read_text() == "x\n") == written


def test_a_device_that_is_gone_fails_a_bind_and_not_an_undo(tmp_path: Path) -> None:
    path = tmp_path / BDF
    write = ((f"{path}/driver_override", "x"),)
    with pytest.raises(ProgramFailed, match="did not take what was written") as error:
        WriteSysfs(write, marks=tmp_path / "marks").do(Here())
    assert os.strerror(errno.ENOENT) in error.value.details[0]
    assert error.value.hint == "the device went away"
    WriteSysfs(write, ((str(path), "*"),), tmp_path / "marks").do(Here())
    ExpectDriver(((str(path), "nvidia"),), tmp_path / "marks", gone=True, deadline=0.0).do(Here())


@pytest.mark.timing
def test_a_write_that_does_not_return_is_broken_off_in_time(tmp_path: Path) -> None:
    path, other = device(tmp_path, BDF), device(tmp_path, OTHER)
    hanging(path / "unbind")
    with pytest.raises(ProgramFailed) as error:
        WriteSysfs(((f"{path}/unbind", BDF), (f"{other}/driver_override", "x")),
                                      marks=tmp_path / "marks", deadline=10.0).do(Here())
    assert error.value.hint == "the write did not end and was broken off"
    assert (other / "driver_override").read_text() == "x\n", "the others are not held up"
    assert not (tmp_path / "marks").exists(), "what could be killed did not hang in the kernel"


@pytest.mark.timing
def test_what_cannot_be_killed_is_marked_and_left_out_from_then_on(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    path, marks = device(tmp_path, BDF), tmp_path / "marks"
    hanging(path / "unbind")
    monkeypatch.setattr(DeviceWriteProcess, "kill", outlives)
    monkeypatch.setattr(DeviceWriteProcess, "stuck_at", lambda self: ["State:\tD (disk sleep)"])
    with pytest.raises(ProgramFailed, match=f"{BDF}: hangs in the kernel"):
        WriteSysfs(((f"{path}/unbind", BDF),), marks=marks, deadline=0.1).do(Here())
    assert (marks / BDF).read_text() == "this boot\nState:\tD (disk sleep)\n"
    WriteSysfs(((f"{path}/unbind", BDF),), marks=marks, deadline=0.1).do(Here())
    ExpectDriver(((str(path), "nvidia"),), marks, deadline=0.0).do(Here())


def outlives(self: DeviceWriteProcess) -> bool:
    """A kill after which the child is said to live on; in truth it is gone, so that nothing is left behind."""
    os.kill(self.pid, 9)
    os.waitpid(self.pid, 0)
    return False


def test_a_child_holds_no_descriptor_of_its_parent(tmp_path: Path) -> None:
    fifo = hanging(tmp_path / "fifo")
    start, end = os.pipe()
    one = DeviceWriteProcess([DeviceWrite(str(fifo), "x")])
    try:
        os.close(end)
        assert os.read(start, 1) == b"", "the pipe ends although the child lives"
    finally:
        assert one.kill()
        one.close()
        os.close(start)
    assert device_writes.KILLED_WITHIN <= 1.0


@pytest.mark.timing
def test_files_that_do_not_answer_are_missing_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one\n")
    (tmp_path / "z").write_text("two\n")
    paths = [str(tmp_path / "a"), str(hanging(tmp_path / "b")), str(tmp_path / "absent"), str(tmp_path / "z")]

    def read(path: str) -> str | None:
        return Path(path).read_text() if Path(path).exists() else None

    assert read_with_deadline(paths, read, 10.0) == {paths[0]: "one\n", paths[2]: None, paths[3]: "two\n"}
    assert read_with_deadline([], read, 0.2) == {}
