"""Upgrades of real containers, while clients ask."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.asking import asking
from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool, footprint

PORT, NAME = 18611, "upgraded"


@pytest.fixture(scope="module")
def running(vmtool: Vmtool, make_spec: MakeSpec) -> Iterator[Path]:
    """An instance; its directory. Afterwards the machine is as before."""
    before = footprint()
    vmtool("run", make_spec(NAME, PORT))
    yield vmtool.state / "instances" / NAME
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def journal(directory: Path) -> str:
    return (directory / "journal.jsonl").read_text()


def state(vmtool: Vmtool) -> str:
    [found] = [one for one in vmtool("ps", "--json").json["instances"] if one["name"] == NAME]
    return str(found["state"])


def containers(vmtool: Vmtool, directory: Path) -> list[str]:
    """What serves of the instance: network namespaces, which a container each has."""
    found = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=30, check=True).stdout
    return sorted(line.split()[0] for line in found.splitlines() if line.startswith(f"vmtool-{NAME}"))


def test_clients_see_no_error_and_nobody_else_is_let_in_between(vmtool: Vmtool, running: Path) -> None:
    key = (running / "secret" / "api-key").read_text().strip()
    with asking(PORT, key, 250) as seen:
        out = vmtool("upgrade", NAME).out
    assert seen.errors == []
    assert (seen.streams, seen.answers > 50) == ([250], True)
    assert state(vmtool) == "running"
    assert containers(vmtool, running) == [f"vmtool-{NAME}.b"]
    assert (running / "secret" / "api-key").read_text().strip() == key
    assert f"{NAME} ready after" in out


@pytest.mark.slow
def test_commands_that_meet_an_upgrade_are_refused(vmtool: Vmtool, make_spec: MakeSpec) -> None:
    """The new one loads for long enough."""
    vmtool("run", make_spec("met", PORT + 1, vllm={"args": {"standin-loads": 20}, "allow": ["unknown"]}))
    directory = vmtool.state / "instances" / "met"
    before = journal(directory).partition("\n")[0]
    try:
        with subprocess.Popen(vmtool.argv("upgrade", "met"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, text=True) as upgrade:
            until(lambda: journal(directory).partition("\n")[0] != before and "wait until" in
                  journal(directory).partition("\n")[2], "it does not begin")
            assert "is being upgraded" in vmtool("stop", "met", status=1).err
            assert "is busy: vmtool upgrade" in vmtool("upgrade", "met", status=3).err
            [shown] = [one["state"] for one in vmtool("ps", "--json").json["instances"] if one["name"] == "met"]
            _, err = upgrade.communicate(timeout=200)
        assert (shown, upgrade.returncode) == ("upgrading", 0), err
    finally:
        vmtool("rm", "--yes", "met")


@pytest.mark.slow
def test_three_thousand_requests_through_upgrades_one_after_the_other(vmtool: Vmtool, running: Path) -> None:
    """And each slot is used again."""
    key, count = (running / "secret" / "api-key").read_text().strip(), 0
    with asking(PORT, key, 3000) as seen:
        while seen.answers < 3000:
            vmtool("upgrade", NAME, "--drain", "2")
            count += 1
    print(f"{count} upgrades, {seen.answers} answers, {len(seen.errors)} errors, slowest {seen.slowest:.2f} s")
    # The stream is longer than the two seconds that it is given, and is the only one that breaks off.
    assert [error for error in seen.errors if "stream" not in error] == []
    assert state(vmtool) == "running"
    assert len(containers(vmtool, running)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("point", ["start the container", "lead to the new one", "come to its end", "ends_previous"])
def test_a_kill_leaves_one_that_serves(vmtool: Vmtool, running: Path, point: str) -> None:
    key, before = (running / "secret" / "api-key").read_text().strip(), journal(running).partition("\n")[0]

    def reached() -> bool:
        begun, _, rest = journal(running).partition("\n")
        return begun != before and point in rest

    with asking(PORT, key, 1) as seen, subprocess.Popen(
            vmtool.argv("upgrade", NAME), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL) as upgrade:
        until(reached, point)
        upgrade.kill()
    assert seen.errors == [], "also between the kill and the recovery somebody serves"
    vmtool("recover")
    assert state(vmtool) == "running"
    assert len(containers(vmtool, running)) == 1
    assert vmtool("chat", NAME, "What is confidential computing?").out
