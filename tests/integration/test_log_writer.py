"""The processes that write a container's log, started as a shim does; whichever is killed, the pipes have a reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.integration.log_writers import writers
from tests.integration.machine import until

# The shell passes descriptors on as a shim does: 3 and 4 to read from, 5 to close when it is ready.
AS_A_SHIM = 'exec 3<&"$1"- 4<&"$2"- 5>&"$3"-; exec env -i "$4" -Imvmtool.host.workers.log_writer "$5"'


def test_a_writer_that_is_killed_is_replaced_and_one_alone_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "log" / "guest.log"
    log.parent.mkdir()
    (out, said), (err, warned), (ready, told) = os.pipe(), os.pipe(), os.pipe()
    with subprocess.Popen(["bash", "-c", AS_A_SHIM, "shim", str(out), str(err), str(told), sys.executable,
                           f"{tmp_path}/./log/guest.log"], pass_fds=(out, err, told)) as first:
        for descriptor in (out, err, told):
            os.close(descriptor)
        assert os.read(ready, 1) == b"", "it is ready"
        until(lambda: len(writers(tmp_path)) == 2, "there are not two")
        writer = writers(tmp_path)[1]
        os.kill(writer, signal.SIGKILL)
        os.write(said, b"to the next\n")
        until(lambda: log.exists() and log.read_text() == "to the next\n", "nobody takes its place")
        assert writers(tmp_path)[0] == first.pid
        first.kill()
    os.write(warned, b"to the one that is left\n")
    until(lambda: log.read_text().endswith("to the one that is left\n"), "it does not go on")
    [left] = writers(tmp_path)
    os.kill(left, signal.SIGTERM)
    os.write(said, b"after the signal\n")
    os.close(said)
    os.close(warned)
    until(lambda: not writers(tmp_path), "it does not end with its pipes")
    assert log.read_text().endswith("after the signal\n")
