"""An instance in a real container that is made to fail: its server, its shim, and what keeps it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool, footprint, health, kill_containerd, until
from vmtool.paths import State
from vmtool.serving.events import read_events

# Some two minutes.
pytestmark = pytest.mark.slow

PORT = 18501
ENGINE = "vllm.entrypoints.openai.api_server"
BOOT = Path("/proc/sys/kernel/random/boot_id")


@pytest.fixture(scope="module")
def running(vmtool: Vmtool, make_spec: MakeSpec) -> Iterator[Path]:
    """An instance whose server may die often; its directory. Afterwards the machine is as before."""
    before = footprint()
    vmtool("run", make_spec("enduring", PORT, restart={"backoff": 0, "limit": 1000}))
    yield vmtool.state / "instances" / "enduring"
    vmtool("rm", "--yes", "enduring")
    assert footprint() == before


def engines(directory: Path) -> list[int]:
    """The servers in the container, as this host numbers them."""
    first = (directory / "container.pid").read_text().split()[0]
    found = []
    for child in Path(f"/proc/{first}/task/{first}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            command = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            found += [int(child)] if ENGINE in command else []
    return found


def test_a_server_that_is_killed_twenty_times_is_restarted_with_the_key_it_had(vmtool: Vmtool, running: Path) -> None:
    pid = (running / "container.pid").read_text()
    started = time.monotonic()
    for _ in range(20):
        [engine] = engines(running)
        os.kill(engine, signal.SIGKILL)
        until(partial(back, running, engine), "it does not come back")
        assert vmtool("chat", "enduring", "What is confidential computing?").out
    took = time.monotonic() - started
    print(f"20 crashes in {took:.1f} s")
    assert (running / "container.pid").read_text() == pid
    events = list(read_events((running / "log" / "guest.log").read_text()))
    assert sum(event["event"] == "server-died" for event in events) == 20
    until(lambda: restarted(vmtool) == [*range(1, 21)], "each restart is an event")
    [top] = vmtool("top").json["instances"]
    assert (top["name"], top["state"], top["health"], top["restarts"]) == ("enduring", "running", "ok", 20)
    assert 0 < top["memory"] < top["memory_limit"] == 4 << 30
    claims = {claim["id"]: claim["verdict"] for claim in vmtool("status", "enduring", "--json").json["claims"]}
    assert claims["process.running"] == "proven"
    look = "ls /dev/shm; ls /run/vmtool; ls /proc | grep -c '^[0-9]'"
    inside = vmtool("exec", "enduring", "--", "sh", "-c", look).out
    assert inside.splitlines()[:-1] == [], "neither shared memory nor a key is left in a file"
    assert int(inside.splitlines()[-1]) <= 6


def back(directory: Path, dead: int) -> bool:
    """Whether another server than that one answers."""
    return engines(directory) not in ([], [dead]) and health(PORT) == 200


def restarted(vmtool: Vmtool) -> list[int]:
    lines = [json.loads(line) for line in vmtool("events", "enduring", "--json", "-n", "1000").out.splitlines()]
    return [line["restart"] for line in lines if line["event"] == "server-restarted"]


def test_events_go_on_while_they_are_followed(vmtool: Vmtool, running: Path) -> None:
    with subprocess.Popen(vmtool.argv("events", "enduring", "-f", "-n", "1", "--json"), stdout=subprocess.PIPE,
                          text=True) as following:
        assert following.stdout
        assert following.stdout.readline(), "the last one of before: from here on it follows"
        [engine] = engines(running)
        os.kill(engine, signal.SIGKILL)
        assert json.loads(following.stdout.readline())["event"] == "server-died"
        assert json.loads(following.stdout.readline())["event"] == "server-restarted"
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130


@pytest.fixture
def watched(vmtool: Vmtool, running: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A watch over the instance, which has looked at it."""
    with subprocess.Popen(vmtool.argv("watch"), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as watch:
        assert watch.stderr
        assert watch.stderr.readline().startswith(b"watching ")
        yield watch
        watch.kill()
    quiet(vmtool)


def quiet(vmtool: Vmtool) -> None:
    """What a killed watch has begun comes to its end."""
    until(lambda: vmtool("ps", "--json").json["instances"][0]["state"] != "starting", "a start does not end")


def first_process(directory: Path) -> int:
    return int((directory / "container.pid").read_text().split()[0])


def happened(vmtool: Vmtool, since: float) -> list[str]:
    lines = [json.loads(line) for line in vmtool("events", "enduring", "--json", "-n", "1000").out.splitlines()]
    return [line["event"] for line in lines if line["at"] >= since]


def shim(directory: Path) -> int:
    """The shim of the container: the parent of its first process."""
    status = Path(f"/proc/{first_process(directory)}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def is_back(vmtool: Vmtool, since: float) -> bool:
    return "brought-back" in happened(vmtool, since)


def brought_back(vmtool: Vmtool, directory: Path, since: float) -> None:
    until(lambda: "brought-back" in happened(vmtool, since), "it is not brought back")
    assert health(PORT) == 200
    assert vmtool("chat", "enduring", "What is confidential computing?").out
    claims = {claim["id"]: claim["verdict"] for claim in vmtool("status", "enduring", "--json").json["claims"]}
    assert claims.pop("tee") == "failed"
    assert "failed" not in claims.values()


@pytest.mark.parametrize("victim", [first_process, shim], ids=["the container", "its shim"])
def test_what_is_killed_is_brought_back_and_proven_anew(vmtool: Vmtool, running: Path, watched: object,
                                                        victim: Any) -> None:
    since = time.time()
    before = first_process(running)
    os.kill(victim(running), signal.SIGKILL)
    brought_back(vmtool, running, since)
    assert first_process(running) != before
    assert [name for name in happened(vmtool, since) if name != "server-died"] == [
        "died", "bring-back", "starting", "started", "canary", "brought-back"]


def test_fifty_kills_of_the_shim_in_a_row_leave_nothing_over(vmtool: Vmtool, running: Path, watched: object) -> None:
    before, took = touched(), []
    for _ in range(50):
        since = time.time()
        os.kill(shim(running), signal.SIGKILL)
        until(partial(is_back, vmtool, since), "it is not brought back")
        took.append(time.time() - since)
    print(f"back after {min(took):.1f} to {max(took):.1f} s, {sum(took) / len(took):.1f} s on average")
    claims = {claim["id"]: claim["verdict"] for claim in vmtool("status", "enduring", "--json").json["claims"]}
    assert claims.pop("tee") == "failed"
    assert "failed" not in claims.values()
    assert touched() == before


def touched() -> str:
    """What a launch touches, without the names that are new each time: of a pair's end, and of the server's socket."""
    found = {key: value for key, value in footprint().items() if key != "leases"}
    return re.sub(r"veth\w+|/tmp/vllm-\w+", "*", json.dumps(found, indent=1))


def test_garbage_is_a_failure_and_a_new_start_mends_it(vmtool: Vmtool, running: Path) -> None:
    since = time.time()
    vmtool("exec", "enduring", "--", "touch", "/tmp/garbage")
    with subprocess.Popen(vmtool.argv("watch", "--canary-every", "1"), stderr=subprocess.DEVNULL,
                          stdin=subprocess.DEVNULL) as watch:
        brought_back(vmtool, running, since)
        watch.kill()
    quiet(vmtool)
    wanted = ["canary-wrong", "canary-wrong", "restart", "stopping", "stopped", "bring-back", "starting", "started",
              "canary", "brought-back"]
    assert [name for name in happened(vmtool, since) if name in wanted] == wanted
    assert "garbage" not in vmtool("chat", "enduring", "What is confidential computing?").out


def test_without_its_private_containerd_it_serves_on_and_the_next_command_starts_that(vmtool: Vmtool, running: Path,
                                                                                     watched: object) -> None:
    since, before = time.time(), first_process(running)
    kill_containerd(vmtool)
    time.sleep(3)
    assert health(PORT) == 200
    assert vmtool("chat", "enduring", "What is confidential computing?").out
    vmtool("stop", "enduring")
    vmtool("start", "enduring")
    assert health(PORT) == 200
    assert first_process(running) != before
    assert "died" not in happened(vmtool, since)


@pytest.mark.parametrize("point", ["bring-back", "starting", "started"])
def test_a_kill_of_watch_at_any_point_loses_nothing(vmtool: Vmtool, running: Path, point: str) -> None:
    """The next watch goes on; a start that was begun comes to its end by itself, and there is never a second one."""
    since = time.time()
    with subprocess.Popen(vmtool.argv("watch"), stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as first:
        time.sleep(2)
        os.kill(first_process(running), signal.SIGKILL)
        until(lambda: point in happened(vmtool, since), f"no event {point}")
        first.kill()
    with subprocess.Popen(vmtool.argv("watch"), stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as second:
        until(lambda: health(PORT) == 200, "it does not come back")
        until(lambda: vmtool("ps", "--json").json["instances"][0]["state"] == "running", "it does not run")
        second.kill()
    assert happened(vmtool, since).count("started") == 1


def test_a_stop_is_a_stop_and_a_start_begins_anew(vmtool: Vmtool, running: Path, watched: object) -> None:
    """Also while watch is bringing it back."""
    since = time.time()
    os.kill(first_process(running), signal.SIGKILL)
    until(lambda: "starting" in happened(vmtool, since), "it is not brought back")
    stopped = vmtool("stop", "enduring")
    assert vmtool("ps", "--json").json["instances"][0]["state"] in ("stopped", "failed"), stopped.err
    count = happened(vmtool, since).count("bring-back")
    time.sleep(15)
    assert happened(vmtool, since).count("bring-back") == count, "it is left as the person left it"
    vmtool("start", "enduring")
    assert health(PORT) == 200
    since = time.time()
    os.kill(first_process(running), signal.SIGKILL)
    brought_back(vmtool, running, since)


def test_after_a_reboot_it_is_brought_back(vmtool: Vmtool, running: Path) -> None:
    since, before = time.time(), first_process(running)
    reboot(vmtool, running)
    with subprocess.Popen(vmtool.argv("watch"), stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as watch:
        brought_back(vmtool, running, since)
        watch.kill()
    assert first_process(running) != before
    assert json.loads((running / "watch.json").read_text())["boot"] == BOOT.read_text().strip()


def reboot(vmtool: Vmtool, directory: Path) -> None:
    """Leave what a reboot leaves: the disk. No process, no mount, no namespace, no link, no rule, no control group,
    nothing in /run, and another boot's name in what watch has written down."""
    run = State(vmtool.state).run
    for pid in (shim(directory), first_process(directory)):
        os.kill(pid, signal.SIGKILL)
    kill_containerd(vmtool)
    until(lambda: not Path(f"/proc/{first_process(directory)}").exists(), "it ends")
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if Path(point := line.split()[1]).is_relative_to(run) or Path(point).is_relative_to(vmtool.state):
            subprocess.run(["umount", point], check=True, timeout=30)
    shutil.rmtree(run)
    subprocess.run(["ip", "netns", "delete", "vmtool-enduring"], check=True, timeout=10)
    subprocess.run(["ip", "link", "delete", "vmt-enduring"], check=True, timeout=10)
    for table in ("nat", "filter"):
        for word in ("-F", "-X"):
            subprocess.run(["iptables", "-w", "-t", table, word], check=True, timeout=30)
    for group in sorted(Path("/sys/fs/cgroup").glob("**/vmtool*"), reverse=True):
        group.rmdir()
    written = json.loads((directory / "watch.json").read_text()) if (directory / "watch.json").exists() else {
        "promised": True, "tries": 0, "given_up": False}
    (directory / "watch.json").write_text(json.dumps(written | {"boot": "another", "given_up": True}))
