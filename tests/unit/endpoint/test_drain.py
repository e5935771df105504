"""Waiting for the answers of a front: how long, and with whom."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from vmtool.endpoint.actions import Drain
from vmtool.endpoint.client import Server
from vmtool.machine import Host

SERVER = Server("127.0.0.1", 9464, Path("/no"))
EARLIER = {"tokens": [{"in_flight": 2}, {"in_flight": 1}]}


class Front:
    """Its answers to the host, one after the other; the last again and again."""

    def __init__(self, *answers: tuple[int, object], lives: bool = True) -> None:
        self.answers, self.lives, self.asked, self.time = [*answers], lives, list[str](), 0.0

    def host(self) -> Host:
        return cast(Host, SimpleNamespace(
            read=lambda path: b"a-key-of-16-bytes", request=self.request, now=lambda: self.time, sleep=self.sleep,
            note=lambda text: None, living=lambda pidfile: self.lives))

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def request(self, method: str, url: str, **more: object) -> tuple[int, str]:
        self.asked.append(f"{method} {url.rpartition('/')[2]}")
        status, document = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return status, json.dumps(document)


@pytest.mark.parametrize(("close", "counted"), [(True, "requests"), (False, "connections")])
def test_it_waits_for_all_of_them_and_not_longer(close: bool, counted: str) -> None:
    front = Front((200, {counted: 2}), (200, {counted: 1}), (200, {counted: 0}))
    assert Drain(SERVER, Path("/key"), Path("/pid"), 60, close).wait(front.host()) == 0
    assert front.asked == [f"PUT {'close' if close else 'drain'}"] * 3
    assert front.time < 1


def test_what_is_left_when_time_is_over_is_said() -> None:
    front = Front((200, {"requests": 3}))
    assert Drain(SERVER, Path("/key"), Path("/pid"), 5, close=True).wait(front.host()) == 3
    assert 5 <= front.time < 6


@pytest.mark.parametrize(("front", "left"), [
    (Front((200, {"requests": 3}), lives=False), 0), (Front((0, "refused")), None), (Front((200, [])), None),
    (Front((401, {})), None)])
def test_of_one_that_does_not_answer_nothing_is_waited_for_and_nothing_is_known(front: Front, left: int | None) -> None:
    assert Drain(SERVER, Path("/key"), Path("/pid"), 5, close=True).wait(front.host()) == left
    assert front.time == 0


def test_of_one_of_an_earlier_vmtool_the_requests_are_counted() -> None:
    front = Front((404, {}), (200, EARLIER), (404, {}), (200, {"tokens": []}))
    assert Drain(SERVER, Path("/key"), Path("/pid"), 5, close=True).wait(front.host()) == 0
    assert front.asked == ["PUT close", "GET access"] * 2


@pytest.mark.parametrize(("close", "line"), [
    (True, "/close | jq -e .requests"), (False, "/drain | jq -e .connections")])
def test_its_line_asks_the_same(close: bool, line: str) -> None:
    assert line in Drain(SERVER, Path("/key"), Path("/pid"), 60, close).shell()
