"""Hosts that were recorded for the network's tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.net.facts import NetworkFacts, read_network
from vmtool.paths import State

DATA = Path(__file__).parents[2] / "data" / "net"
Host = Callable[[str], NetworkFacts]


@pytest.fixture
def state() -> State:
    return State(Path("/var/lib/vmtool"))


@pytest.fixture
def host(state: State) -> Host:
    """Facts of tests/data/net/NAME.json: plain, busy (podman, Docker, others' bridges and routes) or ours (two networks
    of vmtool on top of busy)."""
    return lambda name: read_network(Recorded(json.loads((DATA / f"{name}.json").read_text())), state)
