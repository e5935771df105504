"""`vmtool watch` as a process, over instances that are nothing but directories: what it notices, and what it costs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.machine import Vmtool, until
from tests.integration.watched import Fleet, fleet
from vmtool.paths import State
from vmtool.watch.plan import unit_of, unit_text


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path / "state") as made:
        yield made


@contextlib.contextmanager
def watching(instances: Fleet, *options: str) -> Iterator[subprocess.Popen[str]]:
    """It runs, and has looked once."""
    argv = Vmtool(instances.state.root).argv("watch", *options)
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL) as watch:
        try:
            assert watch.stderr
            assert watch.stderr.readline().startswith("watching ")
            yield watch
        finally:
            if watch.poll() is None:
                watch.terminate()
                try:
                    assert watch.wait(60) == 0
                finally:
                    watch.kill()


def events(directory: Path) -> list[dict[str, object]]:
    file = directory / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def names(directory: Path) -> list[object]:
    return [event["event"] for event in events(directory)]


def test_a_death_is_noticed_and_each_try_to_bring_it_back_is_an_event(instances: Fleet) -> None:
    """There is no model and no image for it here: each try ends before the first change, and says why."""
    directory = instances.add("a")
    other = instances.add("b")
    with watching(instances):
        instances.processes["a"].kill()
        instances.processes["a"].wait()
        until(lambda: names(directory).count("bring-back-failed") >= 2, "it is tried again")
    assert names(directory)[:3] == ["died", "bring-back", "bring-back-failed"]
    [first, *_] = [event for event in events(directory) if event["event"] == "bring-back-failed"]
    assert first["source"] == "watch"
    assert first["status"] != 0
    assert str(first["why"]).startswith("a cannot be launched; spec.model.path: /nowhere is no directory")
    kept = json.loads((directory / "watch.json").read_text())
    assert kept["promised"] is True
    assert kept["tries"] >= 2
    assert not {"died", "bring-back"} & set(names(other)), "the other one is left alone"


def test_silent_garbage_is_found_out(instances: Fleet) -> None:
    """The server is healthy all the time; with policy no it is only written down."""
    directory = instances.add("a", restart={"policy": "no", "backoff": 1.0, "limit": 1})
    with watching(instances, "--canary-every", "1"):
        until(lambda: instances.served.asked >= 1, "it is asked")
        assert names(directory) == []
        instances.served.answer = "garbage"
        until(lambda: "canary-wrong" in names(directory), "it is found out")
        assert 'vmtool_canary_right{name="a"} 0' in Vmtool(instances.state.root)("metrics").out
        instances.served.answer = "So."
        until(lambda: "canary-right" in names(directory), "it is right again")
        assert 'vmtool_canary_right{name="a"} 1' in Vmtool(instances.state.root)("metrics").out
    [wrong, *_] = [event for event in events(directory) if event["event"] == "canary-wrong"]
    assert wrong["why"] == "it answered 'garbage'"


def test_health_is_asked_for_and_its_loss_and_return_are_events(instances: Fleet) -> None:
    directory = instances.add("a")
    with watching(instances, "--health-every", "1"):
        instances.served.status = 503
        until(lambda: "unhealthy" in names(directory), "it is noticed")
        instances.served.status = 200
        until(lambda: "healthy" in names(directory), "so is its return")
    assert '"restarting"' in str(events(directory)[0]["why"])


def test_what_a_person_stopped_stays_so_and_a_kill_of_watch_forgets_nothing(instances: Fleet) -> None:
    stopped, promised = instances.add("a"), instances.add("b")
    (stopped / "stopped").touch()
    with watching(instances) as watch:
        for child in instances.processes.values():
            child.kill()
            child.wait()
        until(lambda: "bring-back" in names(promised), "the other one is brought back")
        os.kill(watch.pid, signal.SIGKILL)
        watch.wait(20)
    before = names(promised).count("bring-back")
    with watching(instances):
        until(lambda: names(promised).count("bring-back") > before, "by the next watch too")
    assert names(stopped) == []
    assert json.loads((promised / "watch.json").read_text())["tries"] >= 2


def test_there_is_one_watch_at_a_time(instances: Fleet) -> None:
    with watching(instances) as first:
        second = Vmtool(instances.state.root)("watch", status=3)
        assert f"watch is busy: vmtool watch (pid {first.pid})" in second.err


def test_damaged_files_of_one_keep_nobody_from_the_others(instances: Fleet) -> None:
    damaged, other = instances.add("a"), instances.add("b")
    (damaged / "instance.json").write_text("{")
    (damaged / "watch.json").write_text("[1")
    (other / "plan.json").write_text("7")
    with watching(instances):
        until(lambda: "damaged" in names(damaged), "it is written down")
        instances.processes["b"].kill()
        instances.processes["b"].wait()
        until(lambda: "died" in names(other), "the other one is watched")
    assert names(damaged) == ["damaged"]


def test_a_guest_that_writes_without_end_does_not_fill_the_disk(instances: Fleet) -> None:
    log = instances.add("a") / "log" / "guest.log"
    with log.open("ab", buffering=0) as guest:
        guest.write(b"the first line\n" + b"noise\n" * (7 << 20) + b"the last line\n")
        with watching(instances):
            until(lambda: log.stat().st_blocks * 512 < 24 << 20, "it takes all that it took")
        guest.write(b"one more\n")
    assert Vmtool(instances.state.root)("logs", "a", "-n", "3").out == "noise\nthe last line\none more\n"
    with log.open("rb") as file:
        assert file.readline() == b"the first line\n"


@pytest.mark.parametrize(("directory", "broken"), [
    ("/var/lib/vmtool", ""), ("/srv/a b/50% off/it's", ""), ('/srv/$HOME/"q"\\', ""), ("/var/lib/vmtool", "Type=exec"),
    ("/var/lib/vmtool", sys.executable)])
def test_systemd_takes_the_unit(tmp_path: Path, directory: str, broken: str) -> None:
    """By its own verification; of a unit that is wrong it says so."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("needs systemd-analyze")
    state = State(Path(directory))
    unit = tmp_path / unit_of(state)
    unit.write_text(unit_text(state).replace(broken or "\0", "Type=/none"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert (bool(done.returncode or done.stderr), done.stdout) == (bool(broken), ""), done.stderr


@pytest.mark.slow
def test_idle_it_is_small(instances: Fleet) -> None:
    """Memory and processor time for twenty instances, in numbers that do not depend on how busy the machine is."""
    for number in range(20):
        instances.add(f"i{number}")
    with watching(instances, "--health-every", "2", "--canary-every", "3") as watch:
        until(lambda: instances.served.asked >= 60, "three rounds of questions")
        status = dict(line.split(":\t") for line in Path(f"/proc/{watch.pid}/status").read_text().splitlines())
        assert int(status["VmHWM"].split()[0]) < 40 << 10
        assert int(status["Threads"]) < 10
        assert len(list(Path(f"/proc/{watch.pid}/fd").iterdir())) < 60
