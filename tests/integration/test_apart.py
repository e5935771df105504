"""What a test process has left behind is told from what others have going, whoever its parents were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.apart import LINKS, RUN, apart
from tests.integration.machine import output, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# Like an xdist worker: it has something going that looks like vmtool's, whose parents live or do not, or which is in a
# UTS namespace of its own as a container is; and says what it takes for its own.
WORKER = """
import json, subprocess, sys
from tests.integration.apart import NAMES, leave_the_machines
from tests.integration.machine import processes_now
name, start = sys.argv[1], "import subprocess; subprocess.Popen(['containerd', '90', '{}'], executable='/bin/sleep')"
leave_the_machines(NAMES)
subprocess.run([sys.executable, "-c", start.format(name + "1")], check=True)
below = "from tests.integration.apart import *; leave_the_machines(NAMES); " + start.format(name + "2") + ".wait()"
child = subprocess.Popen([sys.executable, "-c", below])
print("started", flush=True)
for line in sys.stdin:
    print(json.dumps(processes_now()), flush=True)
child.wait()
"""
# As one whose shim was killed: it is in a namespace of no test process, and nobody's child.
ORPHAN = "from tests.integration.apart import *; leave_the_machines(NAMES); import subprocess; " \
         "subprocess.Popen(['containerd', '90', '3'], executable='/bin/sleep')"


@pytest.fixture
def workers() -> Iterator[list[subprocess.Popen[str]]]:
    """Two, started by this process as by xdist's."""
    made = [subprocess.Popen([sys.executable, "-c", WORKER, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True) for name in "12"]
    for one in made:
        assert one.stdout and one.stdout.readline() == "started\n"
    subprocess.run([sys.executable, "-c", ORPHAN], check=True, timeout=60)
    yield made
    for pid in output("pgrep", "-f", r"^containerd 90 (.1|.2|3)$").split():
        os.kill(int(pid), signal.SIGKILL)
    for one in made:
        one.communicate(timeout=60)


def seen(worker: subprocess.Popen[str]) -> list[str]:
    assert worker.stdin and worker.stdout
    worker.stdin.write("look\n")
    worker.stdin.flush()
    found: dict[str, str] = json.loads(worker.stdout.readline())
    return sorted(argv for argv in found.values() if argv.startswith("containerd 90"))


def started(worker: subprocess.Popen[str]) -> bool:
    return len(seen(worker)) >= 3


def test_each_sees_its_own_and_what_is_of_nobody(workers: list[subprocess.Popen[str]]) -> None:
    for name, one in zip("12", workers, strict=True):
        until(partial(started, one), "all has not started")
        assert seen(one) == [f"containerd 90 {name}1", f"containerd 90 {name}2", "containerd 90 3"]


def test_what_is_apart_is_seen_there_alone_and_afterwards_all_is_as_before(tmp_path: Path) -> None:
    here, links, mounts = os.getcwd(), output("ip", "-br", "link"), Path("/proc/mounts").read_text()
    with apart(LINKS):
        (RUN / "0123abcd").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path], check=True, timeout=30)
        (tmp_path / "file").touch()
        assert f" {tmp_path} tmpfs " in Path("/proc/mounts").read_text()
        assert [line.split()[0] for line in output("ip", "-br", "link").splitlines()] == ["lo"]
        assert not subprocess.run(["nsenter", "-t", str(os.getppid()), "-m", "ls", "-A", tmp_path],
                                  capture_output=True, timeout=30, check=True).stdout
    assert not (RUN / "0123abcd").exists()
    assert not (tmp_path / "file").exists()
    assert os.getcwd() == here
    assert output("ip", "-br", "link") == links
    assert {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()} == {
        line.split()[1] for line in mounts.splitlines()}
