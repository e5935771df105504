"""The key agent with real processes: the engine's workers get the keys, each once; nobody else does."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from vmtool.serving.encrypted.agent import KeyAgent
from vmtool.serving.encrypted.bundle import Bundle, SealedFile
from vmtool.serving.encrypted.process import AGENT

KEYS = bytes(range(64))
# Asks as often as its argument says; what it got is its last lines.
WORKER = """
import sys
from vmtool.serving.cryptotensors.errors import Untrusted
from vmtool.serving.encrypted import receive
receive.WAIT = 0.5
for _ in range(int(sys.argv[1])):
    try:
        print(receive.receive_bundle().keys.hex(), flush=True)
    except Untrusted as error:
        print("refused:", error, flush=True)
"""
# Starts workers, one after the other, through a process between, as vLLM's engine core is one.
CORE = """
import subprocess, sys
for _ in range(int(sys.argv[1])):
    subprocess.run([sys.executable, "-c", *sys.argv[2:]])
"""
ENGINE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CORE!r}, *sys.argv[1:]])"
HARD = """
import os, socket, sys
agent = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
agent.connect(os.environ["VMTOOL_MODEL_AGENT"])
_, [fd], _, _ = socket.recv_fds(agent, 16, 1)
for name, change in {"write": lambda: os.pwrite(fd, b"x", 0), "truncate": lambda: os.ftruncate(fd, 0),
                     "open": lambda: os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x", 0)}.items():
    try:
        change()
        print(name, "worked")
    except OSError as error:
        print(name, error.strerror)
"""


def bundle() -> bytearray:
    return Bundle(Path("/models/local"), Path("/tmp/view"), (SealedFile("a.safetensors", "0" * 64, 2),), 32,
                  bytearray(KEYS)).pack()


class Scene:
    """An agent, and processes that ask it."""

    def __init__(self, directory: Path, workers: int, **options: bool) -> None:
        self.said: list[str] = []
        self.agent = KeyAgent(directory / "keys.sock", bundle(), workers, self.said.append, **options)
        self.environment = {**os.environ, AGENT: str(self.agent.path)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", *words], env=self.environment, text=True,
                                stdout=subprocess.PIPE)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start an engine. The agent listens before it, since workers do not wait long for that; whom it serves it asks
        only when this loop goes on."""
        self.agent.open(os.getpid())
        started = self.start(*words)
        os.close(self.agent.held)
        self.agent.server, self.agent.held = started.pid, os.pidfd_open(started.pid)
        return started

    async def engine(self, workers: int, worker: str = WORKER, asks: int = 1) -> list[str]:
        """What the workers of a new engine got."""
        return await lines(self.begin(ENGINE, str(workers), worker, str(asks)))


async def lines(process: subprocess.Popen[str]) -> list[str]:
    out, _ = await asyncio.to_thread(process.communicate, None, 60)
    return str(out).splitlines()


def run(scene: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 120))


def test_each_worker_gets_the_keys_and_then_the_socket_is_gone(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2)

    async def play() -> None:
        got = await scene.engine(3)
        assert got[:2] == [KEYS.hex()] * 2
        assert got[2].startswith("refused: no key agent at")
        assert not scene.agent.path.exists()
        assert scene.said == ["2 workers got the model's keys; nobody else gets them"]

    run(play)


def test_a_process_of_the_same_user_that_is_not_the_engines_gets_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1)

    async def play() -> None:
        engine = scene.start("import sys; sys.stdin.read()")
        scene.agent.open(engine.pid)
        assert stat.S_IMODE(scene.agent.path.stat().st_mode) == 0o600
        assert await lines(scene.start(WORKER, "1")) == ["refused: the key agent gives this process no key"]
        assert "does not belong to the engine" in scene.said[0]
        engine.kill()
        engine.wait(10)
        assert await scene.engine(1) == [KEYS.hex()], "and the engine's own worker is not kept from it"

    run(play)


def test_a_process_gets_them_once(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 2)

    async def play() -> None:
        assert await scene.engine(1, asks=2) == [KEYS.hex(), "refused: the key agent gives this process no key"]
        assert "has them already" in scene.said[0]

    run(play)


def test_what_a_worker_gets_can_only_be_read(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1)

    async def play() -> None:
        assert await scene.engine(1, HARD) == [
            "write Bad file descriptor", "truncate Invalid argument", "open Operation not permitted"]

    run(play)


def test_the_workers_of_an_engine_that_is_started_again_get_them_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1)

    async def play() -> None:
        assert await scene.engine(1) == [KEYS.hex()]
        assert await scene.engine(1) == [KEYS.hex()]
        scene.agent.end()
        assert scene.agent.packed == b"" and not scene.agent.path.exists()

    run(play)


def test_a_worker_of_the_engine_before_gets_nothing_of_the_next_ones(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1)

    async def play() -> None:
        first = scene.begin(ENGINE, "1", WORKER, "1")
        # The next engine; whatever it is, the first one's workers are not its own.
        scene.agent.server = first.pid + 1 if first.pid + 1 != os.getpid() else first.pid + 2
        assert await lines(first) == ["refused: the key agent gives this process no key"]

    run(play)


@pytest.mark.parametrize("itself", [False, True])
def test_whoever_has_the_number_of_an_engine_that_has_ended_gets_nothing(tmp_path: Path, itself: bool) -> None:
    """Between its end and the next start may be minutes, and anybody of the same user can fork until the number is
    his."""
    scene = Scene(tmp_path, 1, itself=itself)

    async def play() -> None:
        engine = scene.start("import sys; sys.stdin.read()")
        scene.agent.open(engine.pid)
        engine.kill()
        engine.wait(10)
        words = (WORKER, "1") if itself else (ENGINE, "1", WORKER, "1")
        other = scene.start(*words)
        scene.agent.server = other.pid  # as if it had got that number
        assert await lines(other) == ["refused: the key agent gives this process no key"]
        following = scene.start(*words)
        scene.agent.open(following.pid)
        assert await lines(following) == [KEYS.hex()]

    run(play)


def test_without_a_start_to_come_the_keys_are_overwritten_when_the_last_worker_has_them(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1, again=False)
    packed = scene.agent.packed

    async def play() -> None:
        assert await scene.engine(1) == [KEYS.hex()]
        assert not any(packed) and scene.agent.packed == b""

    run(play)


def test_an_engine_of_one_process_gets_them_itself_and_one_of_many_does_not(tmp_path: Path) -> None:
    async def play() -> None:
        for itself, wanted in ((True, KEYS.hex()), (False, "refused: the key agent gives this process no key")):
            scene = Scene(tmp_path, 1, itself=itself)
            assert await lines(scene.begin(WORKER, "1")) == [wanted]
            scene.agent.end()

    run(play)


@pytest.mark.skipif(bool(os.geteuid()), reason="needs another user")
def test_another_user_gets_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, 1)
    tmp_path.chmod(0o755)

    async def play() -> None:
        engine = scene.start("import sys; sys.stdin.read()")
        scene.agent.open(engine.pid)
        other = subprocess.run(["setpriv", "--reuid", "65532", "--clear-groups", sys.executable, "-c", WORKER, "1"],
                               env=scene.environment, text=True, capture_output=True, timeout=60, check=False)
        engine.kill()
        engine.wait(10)
        assert KEYS.hex() not in other.stdout

    run(play)
