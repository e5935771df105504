"""What answers HTTP on the machine: the workloads that have their key."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.fakes.machine.network import NETNS

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine


def answer(machine: FakeMachine, method: str, url: str, headers: dict[str, str],
           body: bytes | None) -> tuple[int, str]:
    """Status and text; 0 and the reason when nobody listens there."""
    place = urlsplit(url)
    address = _behind(machine, place.hostname or "", place.port or 80)
    keys = [key for each, key in _serving(machine) if each == address]
    if not keys:
        return 0, "[Errno 111] Connection refused"
    if place.path == "/health":
        return 200, ""
    if place.path == "/drain":
        return 200, '{"connections": 0}'
    if place.path == "/close":
        return 200, '{"requests": 0}'
    if headers.get("Authorization") != f"Bearer {keys[0]}":
        return 401, '{"error": "Unauthorized"}'
    if place.path == "/v1/models":
        return 200, json.dumps({"object": "list", "data": [{"id": "m", "max_model_len": 256}]})
    question = json.loads(body or b"{}")["messages"][0]["content"]
    return 200, json.dumps({"choices": [{"message": {"content": machine.answers.get(question, "I do not know.")}}]})


def _serving(machine: FakeMachine) -> Iterator[tuple[str, str]]:
    """(address, key) of each workload that serves."""
    for store in machine.containerds.values():
        for task in store.tasks.values():
            space = machine.links.spaces.get(task.netns.removeprefix(f"{NETNS}/"), {})
            for link in space.values() if task.key and task.pid in machine.processes else ():
                yield from ((str(ipaddress.ip_interface(one).ip), task.key) for one in link.addresses)
    yield from machine.guests.serving()


def _behind(machine: FakeMachine, host: str, port: int) -> str:
    """The address that the host's rules lead to: of the published ports' rules the first counts."""
    if not host.startswith("127."):
        return host
    chains = machine.tables.chains["nat"]
    for jump in chains.get("CNI-HOSTPORT-DNAT", ()):
        for rule in chains[jump.rpartition(" ")[2]]:
            if found := re.search(rf"--dport {port} -j DNAT --to-destination ([0-9.]+):", rule):
                return found[1]
    return host
