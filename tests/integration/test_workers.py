"""Real worker processes: how they end, and what arrives of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.machine import until
from vmtool.engine.journal import NAME, Journal
from vmtool.errors import ProgramFailed, ProgramMissing, Refused, VmtoolError
from vmtool.host import processes
from vmtool.host.local import LocalHost
from vmtool.isolation import private
from vmtool.plan import RunWorker, question, run_worker
from vmtool.rootfs.build.workers import cpio, insert_filesystem, run_e2fsck
from vmtool.rootfs.format.workers import digest

# e2fsck's worker runs whatever it is given: a shell that does something to its parent, which is the worker.
PARENT = "test $(tr '\\0' ' ' < /proc/$PPID/cmdline | grep -c vmtool.engine.worker) = 1 || exit 9; "


def shell(script: str, **options: Any) -> RunWorker:
    return run_worker(run_e2fsck.Order(("sh", "-c", PARENT + script)), **options)


def test_an_error_is_raised_as_the_worker_raised_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(9))
    order = insert_filesystem.Order(tmp_path / "file", tmp_path / "image", 0, 8)
    with pytest.raises(Refused, match="has 9 bytes, and the image has room for 8") as error:
        run_worker(order).do(LocalHost())
    assert (error.value.code, error.value.hint) == (2, "raise `size` in the recipe")
    (tmp_path / "file").unlink()
    with pytest.raises(VmtoolError, match=f"^{tmp_path}/file: no such file or directory$"):
        run_worker(order).do(LocalHost())


def test_a_program_that_a_worker_lacks_keeps_its_class_and_hint() -> None:
    with pytest.raises(ProgramMissing) as error:
        run_worker(run_e2fsck.Order(("no-such-program",))).do(LocalHost())
    assert (error.value.code, error.value.hint) == (3, "apt-get install no-such-program")


def test_what_is_printed_is_output_and_the_log_has_it() -> None:
    log = io.StringIO()
    shell("echo out; echo err >&2").do(LocalHost(log))
    assert "out\n" in log.getvalue() and "err\n" in log.getvalue()
    with pytest.raises(ProgramFailed, match="exit status 8") as error:
        shell("echo the reason; exit 8").do(LocalHost())
    assert error.value.details == ("the reason",)


def test_a_worker_that_is_killed_is_a_failed_program_with_its_last_lines() -> None:
    with pytest.raises(ProgramFailed, match=r"^worker rootfs\.build\.run_e2fsck: died of SIGKILL$") as error:
        shell("kill -9 $PPID", hint="h").do(LocalHost())
    assert error.value.hint == "h"


def test_a_worker_with_garbage_in_its_report_is_a_failed_program() -> None:
    write = ("for each in /proc/$PPID/fd/*; do case $(readlink $each) in */memfd:vmtool-report*) "
             "head -c 3000000 /dev/urandom > $each; found=1;; esac; done; test $found")
    with pytest.raises(ProgramFailed, match="what it reported is no error of vmtool's"):
        shell(write).do(LocalHost())


def test_the_programs_of_a_worker_do_not_get_its_report() -> None:
    shell("! ls -l /proc/self/fd | grep vmtool-report").do(LocalHost())


def test_a_worker_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pid, started = tmp_path / "pid", time.monotonic()
    for deadline in (1.0, 4.0, 16.0):  # on a busy machine a short one passes before the shell is there
        with pytest.raises(ProgramFailed, match=f"no end after {deadline:.0f} s"):
            shell(f"echo $$ > {pid}; exec sleep 600", deadline=deadline).do(LocalHost())
        if pid.exists() and pid.read_text():
            break
    assert time.monotonic() - started < 300
    until(lambda: processes.start_time(int(pid.read_text())) is None, "what it started goes on")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces")
def test_an_error_gets_out_of_a_namespace_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has 1 bytes"):
        (tmp_path / "file").write_bytes(b"x")
        run_worker(insert_filesystem.Order(tmp_path / "file", tmp_path / "image", 0, 0),
                   prefix=private(root=True)).do(LocalHost())


def test_the_line_of_the_runbook_does_the_same_when_it_is_typed(tmp_path: Path) -> None:
    subprocess.run(["tar", "-cf", tmp_path / "root.tar", "-C", "/etc", "passwd"], check=True)
    action = run_worker(cpio.Order(tmp_path / "root.tar", tmp_path / "it's"))
    action.do(LocalHost())
    made = (tmp_path / "it's").read_bytes()
    (tmp_path / "it's").unlink()
    subprocess.run(["sh", "-c", action.shell()], check=True)
    assert (tmp_path / "it's").read_bytes() == made
    failed = subprocess.run(["sh", "-c", run_worker(insert_filesystem.Order(
        tmp_path / "it's", tmp_path / "image", 0, 0)).shell()], check=False, capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.endswith("room for 0\nhint: raise `size` in the recipe\n")


def test_a_question_is_answered_on_standard_output(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xf6t utf-8")
    path.write_bytes(b"x")
    answer = LocalHost().run(question(digest.Order("sha256", path)))
    assert answer and (answer.status, answer.out) == (
        0, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\n")


def test_what_an_earlier_vmtool_would_have_run_is_done_by_a_worker(tmp_path: Path) -> None:
    """Its undo of a growth, of an image that was not touched: harmless."""
    run = {"kind": "Run", "argv": ["/gone/python", "-I", "-m", "vmtool.host.wayback", f"{tmp_path}/i.img"], "env": [],
           "stdin": None, "stdout": None, "deadline": 3600, "gone": [], "hint": ""}
    records = ({"event": "plan", "subject": "resize of i.img"}, {"event": "step", "title": "grow", "undo": [run]})
    (tmp_path / NAME).write_text("".join(f"{json.dumps(record)}\n" for record in records))
    [entry] = Journal(tmp_path).replay().entries
    for action in entry.undo:
        action.do(LocalHost())
