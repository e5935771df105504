"""The entrypoint as a process, with an engine that dies: who asks it meanwhile, and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.integration.serving import mortal_engine
from tests.integration.serving.processes import Serving, parse, reserved_port, until
from tests.integration.serving.run_front import KEY
from vmtool.serving.events import read_events

ENGINE = "vllm/entrypoints/openai/api_server.py"


@dataclass
class Guest:
    """What runs in a container, without the container."""

    model: Path
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    pids: list[int] = field(default_factory=list)

    @property
    def front(self) -> Serving:
        return Serving(self.port, self.process, None, self.model)

    def head(self, path: str = "/health", key: bool = False) -> tuple[int, str]:
        """Status and the whole answer; 0 when there is none."""
        bearer = f"Authorization: Bearer {KEY}\r\n" if key else ""
        raw = self.front.say(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{bearer}\r\n")
        return parse(raw)[0], raw.decode()

    def exits(self, status: int) -> None:
        """Have the engine end with that exit status."""
        body = json.dumps({"exit": status})
        self.front.say(f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}"
                       f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}")

    def engine(self) -> int:
        return int((self.model / "engine").read_text())

    def up(self) -> bool:
        with contextlib.suppress(OSError):
            return self.head()[0] == 200
        return False

    def events(self) -> list[dict[str, object]]:
        return list(read_events(self.log.read_text()))


@contextlib.contextmanager
def guest(tmp_path: Path, *options: str, up: bool = True) -> Iterator[Guest]:
    """Start it, with the key in its file; afterwards nothing of it is left."""
    model, libraries = tmp_path / "model", tmp_path / "libraries"
    model.mkdir(exist_ok=True)
    for parent in Path(ENGINE).parents:
        (libraries / parent).mkdir(parents=True, exist_ok=True)
        (libraries / parent / "__init__.py").touch()
    (libraries / ENGINE).write_bytes(Path(mortal_engine.__file__).read_bytes())
    (tmp_path / "key").write_text(KEY)
    held = reserved_port()
    port, log = held.getsockname()[1], tmp_path / "log"
    root = Path(__file__).parents[3]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vmtool.serving.entrypoint", "--model", str(model), "--served-model-name", "m",
             "--listen", f"127.0.0.1:{port}", "--api-key-file", str(tmp_path / "key"), "--grace", "5", *options],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": f"{libraries}:{root}", "TMPDIR": str(tmp_path)})
    one = Guest(model, port, process, log)
    try:
        if up:
            until(one.up, "it is not healthy")
        yield one
    finally:
        process.terminate()
        process.wait(60)
        held.close()
        assert not [pid for pid in workers(one) if Path(f"/proc/{pid}").exists()]


def workers(one: Guest) -> list[int]:
    file = one.model / "workers"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_one_that_has_lost_a_process_is_ended_and_comes_back_without_a_wait(tmp_path: Path) -> None:
    """The first start of a row is at once, and vLLM is not left to find out by itself."""
    with guest(tmp_path, "--restart-backoff", "3000") as one:
        engine, [worker] = one.engine(), workers(one)
        os.kill(worker, signal.SIGKILL)
        until(lambda: one.engine() != engine and one.up(), "it does not come back")
        [died] = [event for event in one.events() if event["event"] == "server-died"]
        assert (died["how"], died["wait"]) == ("killed by SIGKILL", 0)


@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_an_engine_that_is_killed_many_times_comes_back_each_time(tmp_path: Path, times: int) -> None:
    """The front is the same process all the time, with the key that it was given once and that is in no file."""
    with guest(tmp_path, "--restart-backoff", "0", "--restart-limit", "1000") as one:
        killed: set[int] = set()
        for number in range(1, times + 1):
            killed.add(one.engine())
            os.kill(one.engine(), signal.SIGKILL)
            until(lambda: one.engine() not in killed and one.up(), "it does not come back")
            assert one.head("/version", key=True)[0] == 200
            living = [pid for pid in workers(one) if Path(f"/proc/{pid}").exists()]
            assert len(living) == 1, f"of what {number} engines started, that of the last one lives"
        events = one.events()
        assert [event["restart"] for event in events if event["event"] == "server-died"] == [*range(1, times + 1)]
        assert {event["how"] for event in events if event["event"] == "server-died"} == {"killed by SIGKILL"}
        until(lambda: [event["restart"] for event in one.events() if event["event"] == "server-restarted"]
              == [*range(1, times + 1)], "every restart is an event")
        open_files = len(os.listdir(f"/proc/{one.process.pid}/fd"))
        assert open_files < 40, "nothing is held for each engine that was"
        assert one.process.poll() is None
        assert not (tmp_path / "key").exists()


def test_meanwhile_clients_are_told_when_to_come_again(tmp_path: Path) -> None:
    with guest(tmp_path, "--restart-backoff", "3000") as one:
        first = one.engine()
        os.kill(first, signal.SIGKILL)
        until(lambda: one.engine() != first and one.up(), "the first restart is at once")
        os.kill(one.engine(), signal.SIGKILL)
        until(lambda: one.head()[0] == 503, "its death is noticed")
        until(lambda: '"restarting"' in one.head()[1], "it says what it is")
        for path, key in (("/health", False), ("/v1/models", True), ("/v1/models/m", True)):
            status, answer = one.head(path, key=key)
            assert (status, answer.partition("Retry-After: ")[2].split()[0]) == (503, "60"), "no client waits longer"
        assert one.head("/v1/models")[0] == 401, "who has no key learns no more than /health says"
        one.process.terminate()
        assert one.process.wait(60) == 0, "a stop is a stop, also while it waits"


def test_a_client_that_asks_through_a_crash_is_answered_each_time(tmp_path: Path) -> None:
    """With an answer, or with an error that says when to ask again."""
    with guest(tmp_path, "--restart-backoff", "0.2") as one:
        seen: dict[int, int] = {}
        killed = one.engine()
        os.kill(killed, signal.SIGKILL)
        end = time.monotonic() + 60
        while seen.get(200, 0) < 20:
            status, answer = one.head("/version", key=True)
            seen[status] = seen.get(status, 0) + 1
            assert status in (200, 502, 503), answer
            assert status == 200 or "Retry-After: " in answer
            assert time.monotonic() < end, seen
            time.sleep(0.02)
        assert one.engine() != killed


def test_a_crash_loop_ends_with_the_last_words(tmp_path: Path) -> None:
    with guest(tmp_path, "--restart-backoff", "0.01", "--restart-limit", "3") as one:
        (one.model / "ends").write_text("7")
        os.kill(one.engine(), signal.SIGKILL)
        assert one.process.wait(60) == 1
        lines = one.log.read_text().splitlines()
        assert "vLLM died after 3 restarts in a row: exit status 7" in lines[-1]
        assert [line for line in lines[-6:] if line == "the last words of a server"]
        waits = [event["wait"] for event in one.events() if event["event"] == "server-died"]
        assert waits == [0, 0.01, 0.02]
        assert one.events()[-1]["event"] == "server-given-up"


@pytest.mark.parametrize("options", [(), ("--restart", "always")])
def test_a_server_that_never_answered_is_not_tried_again(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Whoever launches it waits, and is told at once."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ends").write_text("2")
    with guest(tmp_path, *options, up=False) as one:
        assert one.process.wait(60) == 1
        assert one.log.read_text().splitlines()[-1].endswith("vLLM died: exit status 2")
        assert one.events() == []


@pytest.mark.parametrize(("policy", "status", "again"), [
    ("no", 1, False), ("on-failure", 0, False), ("on-failure", 3, True), ("always", 0, True)])
def test_the_policy_says_after_which_end(tmp_path: Path, policy: str, status: int, again: bool) -> None:
    """What `on-failure` takes for no failure ends with 0 itself, and says so to who keeps it."""
    with guest(tmp_path, "--restart", policy, "--restart-backoff", "0") as one:
        first = one.engine()
        one.exits(status)
        if again:
            until(lambda: one.engine() != first and one.up(), "it does not come back")
        else:
            assert one.process.wait(60) == (1 if status else 0)
            assert [event["event"] for event in one.events()] == ([] if status else ["server-ended"])
