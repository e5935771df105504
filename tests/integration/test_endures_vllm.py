"""vLLM itself, whose processes are killed one after the other: each time it is back as soon as vLLM starts."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import VLLM, MakeSpec
from tests.integration.machine import Vmtool, footprint, health, until
from vmtool.serving.events import read_events

# Each start of vLLM takes half a minute.
pytestmark = pytest.mark.slow

PORT, NAME = 18641, "mortal"
QUESTION = "What is confidential computing?"


@pytest.fixture(scope="module")
def running(vmtool: Vmtool, make_spec: MakeSpec) -> Iterator[Path]:
    """Afterwards the machine is as before."""
    before = footprint()
    vmtool("run", make_spec(NAME, PORT, **VLLM))
    yield vmtool.state / "instances" / NAME
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


def inside(directory: Path) -> dict[int, str]:
    """The processes of the container but its first, as this host numbers them, and what each calls itself."""
    first = (directory / "container.pid").read_text().split()[0]
    space, found = os.readlink(f"/proc/{first}/ns/pid"), {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pid != first and os.readlink(f"/proc/{pid}/ns/pid") == space:
                found[int(pid)] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("which", ["EngineCore", "api_server", "the newest"])
def test_whichever_of_its_processes_is_killed_it_comes_back_and_answers_right(vmtool: Vmtool, running: Path,
                                                                              which: str) -> None:
    first, there = (running / "container.pid").read_text(), inside(running)
    print(there)
    victims = [max(there)] if which == "the newest" else [pid for pid, name in there.items() if which in name]
    assert victims, f"of {there} none is the {which}"
    restarts = seconds(running)
    since = time.monotonic()
    os.kill(victims[0], signal.SIGKILL)
    until(lambda: len(seconds(running)) > len(restarts) and health(PORT) == 200, "it does not come back", 300)
    took = time.monotonic() - since
    own = seconds(running)[-1]
    print(f"{which}: back after {took:.1f} s, of which vLLM's own start took {own:.1f} s; its first one "
          f"{first_start(running):.1f} s")
    assert not set(there) & set(inside(running)), "something of the dead one is left"
    expected = json.loads((vmtool.state / "models" / "canary" / "canary.json").read_text())["expect"]
    assert vmtool("chat", NAME, QUESTION).out.strip() == expected
    claims = {claim["id"]: claim["verdict"] for claim in vmtool("status", NAME, "--json").json["claims"]}
    assert claims.pop("tee") == "failed"
    assert set(claims.values()) == {"proven"}
    assert (running / "container.pid").read_text() == first
    assert inside(running)


def seconds(directory: Path) -> list[float]:
    """How long each restart of the server took."""
    events = read_events((directory / "log" / "guest.log").read_text())
    return [float(event["seconds"]) for event in events if event["event"] == "server-restarted"]


def first_start(directory: Path) -> float:
    """How long the first start took: between two lines of the entrypoint's."""
    lines = (directory / "log" / "guest.log").read_text().splitlines()
    begun, answered = (next(float(line.split()[1]) for line in lines if line.startswith("vmtool ") and what in line)
                       for what in ("s  starting ", " answers"))
    return answered - begun
