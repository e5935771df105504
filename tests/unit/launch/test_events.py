"""What has happened to an instance: written down in bounded files, and shown with what its guest says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from tests.fakes.recorded import Recorded
from tests.fakes.typed import typed
from tests.unit.launch.cases import instance
from vmtool.cli.apply_plan import apply_plan, remove
from vmtool.engine import hooks
from vmtool.errors import VmtoolError
from vmtool.host import event_log
from vmtool.launch.commands.top import memory, span
from vmtool.launch.load_facts import count_restarts, read_load, read_report
from vmtool.paths import State
from vmtool.plan import Plan, Remove, Run, Step, WriteFile
from vmtool.serving.events import event_text

LOG = "INFO 11-26 10:14:33 [loggers.py:259] Engine 000: Avg prompt throughput: 2.5 tokens/s, " \
      "Avg generation throughput: 17.1 tokens/s, Running: 3 reqs, Waiting: 1 reqs, GPU KV cache usage: 42.5%, " \
      "Prefix cache hit rate: 0.0%\n"
AT = 1795688080.0  # 2026-11-26 10:14:40 UTC


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "state" / "instances" / "a"
    (made / "log").mkdir(parents=True)
    return made


def says(directory: Path, at: float, event: str, **values: object) -> None:
    """The guest writes an event in its log."""
    with (directory / event_log.GUEST_LOG).open("a") as log:
        log.write(f"vmtool     1.00 s  {event_text(at, event, **values)}\n")


def names(directory: Path) -> list[str]:
    return [event["event"] for event in event_log.read(directory)]


def test_events_are_in_their_order_whoever_wrote_them(directory: Path) -> None:
    event_log.append(directory, [{"at": 1.0, "event": "started"}, {"at": 9.0, "event": "stopped"}])
    says(directory, 5.0, "server-died", how="killed by SIGKILL")
    assert [(event["event"], event["source"]) for event in event_log.read(directory)] == [
        ("started", "vmtool"), ("server-died", "guest"), ("stopped", "vmtool")]


def test_what_the_guest_said_outlives_its_log_and_is_told_once(directory: Path) -> None:
    says(directory, 5.0, "server-died", how="x")
    for _ in range(3):
        event_log.collect(directory)
        assert names(directory) == ["server-died"]
    (directory / event_log.GUEST_LOG).unlink()
    assert names(directory) == ["server-died"]


def test_two_files_are_kept_and_neither_is_long(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "LARGEST", 2000)
    for number in range(500):
        event_log.record(directory, "health", number=number)
    sizes = [path.stat().st_size for path in directory.iterdir() if path.is_file()]
    assert len(sizes) == 2
    assert max(sizes) <= 2000
    numbers = [event["number"] for event in event_log.read(directory)]
    assert numbers == [*range(numbers[0], 500)], "the newest ones, without a gap"
    assert (directory / event_log.NAME).stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_power_loss_cut_takes_no_other_along(directory: Path) -> None:
    event_log.record(directory, "started")
    with (directory / event_log.NAME).open("a") as file:
        file.write('{"at": 5, "ev')
    event_log.record(directory, "stopped")
    assert names(directory) == ["started", "stopped"]


def test_a_guest_that_writes_events_without_end_fills_nothing(directory: Path) -> None:
    event_log.record(directory, "started")
    with (directory / event_log.GUEST_LOG).open("w") as log:
        for number in range(20_000):
            log.write(f"vmtool     1.00 s  {event_text(float(number), 'server-died', how='x' * 20)}\n")
    event_log.collect(directory)
    assert len(event_log.read(directory)) <= event_log.GUEST_MOST + 1
    assert "started" in names(directory)


def test_what_a_guest_says_without_end_pushes_nothing_out_that_the_host_saw(
        directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "LARGEST", 200_000)
    event_log.record(directory, "bring-back", "watch")
    for flood in range(8):
        with (directory / event_log.GUEST_LOG).open("w") as log:
            for number in range(50):
                text = event_text(1e9 + 50 * flood + number, "server-died", how="x" * 1900)
                log.write(f"vmtool     1.00 s  {text}\n")
        event_log.collect(directory)
    event_log.record(directory, "given-up", "watch")
    (directory / event_log.GUEST_LOG).unlink()
    found = event_log.read(directory)
    assert {event["event"] for event in found} == {"bring-back", "given-up", "server-died"}
    assert max(event["at"] for event in found if event["source"] == "guest") == 1e9 + 50 * 7 + 49, "the newest"
    sizes = [path.stat().st_size for path in directory.iterdir() if path.is_file()]
    assert max(sizes) <= event_log.LARGEST
    assert sum(sizes) > event_log.LARGEST, "of the guest's there are two files"


@pytest.mark.parametrize("prepare", [
    lambda path: path.rmdir(), lambda path: (path / event_log.NAME).mkdir(),
    lambda path: os.symlink("/nowhere/x", path / event_log.NAME)], ids=["no directory", "a directory", "a link"])
def test_nothing_fails_for_want_of_an_event(directory: Path, prepare: object) -> None:
    (directory / "log").rmdir()
    prepare(directory)  # type: ignore[operator]
    event_log.record(directory, "started")
    assert event_log.read(directory) == []


def test_the_command_shows_lines_for_a_person_and_for_a_program(directory: Path) -> None:
    event_log.append(directory, [{"at": 86400.0, "event": "start-failed", "by": "vmtool run a", "error": "a\x1b[31mb"}])
    says(directory, 86401.0, "server-died", how="exit status 1")
    shown = typed(directory.parents[1], "events", "a")
    assert [line.split()[2:4] for line in shown.stdout.splitlines()] == [
        ["vmtool", "start-failed"], ["guest", "server-died"]]
    assert "\x1b" not in shown.stdout
    lines = [json.loads(line) for line in typed(directory.parents[1], "events", "a", "--json").stdout.splitlines()]
    assert [(line["schema"], line["event"]) for line in lines] == [
        ("vmtool/v1", "start-failed"), ("vmtool/v1", "server-died")]
    assert len(typed(directory.parents[1], "events", "a", "-n", "1").stdout.splitlines()) == 1
    assert typed(directory.parents[1], "events", "a", "-n", "0").stdout == ""
    assert "there is no instance" in str(typed(directory.parents[1], "events", "b").exception)


def test_where_nothing_has_happened_that_is_said(directory: Path) -> None:
    shown = typed(directory.parents[1], "events", "a")
    assert (shown.stdout, shown.stderr) == ("", "nothing has happened to a yet\n")


def test_a_launch_and_a_failed_one_are_events(directory: Path) -> None:
    """Whatever is applied to an instance; what the guest said before is kept first, since a launch removes its log."""
    state, log = State(directory.parents[1]), directory / event_log.GUEST_LOG

    def launch(*actions: object) -> Plan:
        return Plan("instance a", directory, (Step("do it", actions, (Remove(directory / "x"),)),))  # type: ignore[arg-type]

    apply_plan(state, directory, "vmtool run a", lambda: launch(WriteFile(directory / "x", "1")))
    says(directory, 1e9, "server-died", how="x")
    with pytest.raises(VmtoolError):
        apply_plan(state, directory, "vmtool start a", lambda: launch(Remove(log), Run(("/no/such/program",))))
    assert not log.exists()
    assert [(event["event"], event.get("by")) for event in event_log.read(directory)] == [
        ("server-died", None), ("starting", "vmtool run a"), ("started", "vmtool run a"),
        ("starting", "vmtool start a"), ("start-failed", "vmtool start a"), ("undone", "vmtool start a")]
    remove(state, directory, "vmtool rm a")
    assert not directory.exists()
    assert hooks.observers == ()


def test_restarts_are_counted_from_the_start_that_a_person_made() -> None:
    def event(name: str, by: str = "") -> event_log.Recorded:
        return {"at": 1.0, "event": name, "by": by}

    assert count_restarts([
        event("starting", "vmtool run a"), event("server-restarted"), event("starting", "vmtool run a"),
        event("server-restarted"), event("server-died"), event("starting", "vmtool watch"), event("brought-back"),
        event("server-restarted")]) == 3


@pytest.mark.parametrize(("now", "known"), [(AT, True), (AT + 30, False), (AT - 60, False)])
def test_an_old_report_is_none(directory: Path, now: float, known: bool) -> None:
    (directory / event_log.GUEST_LOG).write_text(f"(APIServer pid=1) {LOG}")
    report = read_report(FakeHost(), instance(directory), now)
    assert (report is not None) == known
    if report:
        assert (report.prompt, report.generation, report.running, report.waiting, report.kv_cache) == (
            2.5, 17.1, 3, 1, 42.5)


def test_a_log_without_a_report_tells_nothing(directory: Path) -> None:
    assert read_report(FakeHost(), instance(directory), AT) is None
    (directory / event_log.GUEST_LOG).write_text(LOG.replace("11-26", "13-99"))
    assert read_report(FakeHost(), instance(directory), AT) is None


@pytest.mark.parametrize(("seconds", "text"), [(5.9, "0m5s"), (3700, "1h1m"), (200_000, "2d7h"), (None, "?")])
def test_a_span_has_two_units(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(("groups", "file", "limit", "shown"), [
    ("5:memory:/a", "memory/a/memory.limit_in_bytes", "9223372036854771712", "?"),
    ("5:memory:/a", "memory/a/memory.limit_in_bytes", "2147483648", "?/2.0Gi"),
    ("0::/a", "a/memory.max", "max", "?"), ("0::/a", "a/memory.max", "2147483648", "?/2.0Gi")])
def test_a_control_group_without_a_limit_shows_none(directory: Path, groups: str, file: str, limit: str,
                                                    shown: str) -> None:
    """Version 1 has a number for that: on a machine with pages of 4 KiB this one."""
    host = FakeHost(Recorded({"texts": {"/proc/4242/cgroup": f"{groups}\n", f"/sys/fs/cgroup/{file}": f"{limit}\n"}}))
    assert memory(read_load(host, instance(directory), AT)) == shown
