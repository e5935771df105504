"""Starts the front and its engine, and speaks to them by raw sockets, as an attacker does."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.integration.serving.run_front import KEY

BEARER = f"Authorization: Bearer {KEY}\r\n"
SECONDS = 60.0


@dataclass(frozen=True)
class Serving:
    """A front with its engine."""

    port: int
    front: subprocess.Popen[bytes]
    engine: subprocess.Popen[bytes] | None
    directory: Path
    manage_port: int = 0
    secure: ssl.SSLContext | None = None

    def connect(self) -> socket.socket:
        plain = self.tcp()
        return self.secure.wrap_socket(plain, server_hostname="localhost") if self.secure else plain

    def tcp(self) -> socket.socket:
        """Without TLS, whatever the front speaks."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def say(self, data: bytes | str) -> bytes:
        """Send these bytes on a connection of their own; everything that comes back until it is closed."""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(data.encode() if isinstance(data, str) else data)
            return everything(connection)
        return b""

    def ask(self, method: str, target: str, headers: str = BEARER, body: bytes = b"") -> tuple[int, bytes]:
        """One well-formed request: status and body of the answer."""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}{length}\r\n"
        return parse(self.say(head.encode("latin-1") + body))

    def chat(self, **asked: float) -> bytes:
        """The bytes of a chat request with a key."""
        return chat(**asked)

    def memory(self) -> int:
        """The front's resident bytes at their highest."""
        status = Path(f"/proc/{self.front.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10

    def events(self) -> list[str]:
        """What the engine has logged."""
        return (self.directory / "engine").read_text().splitlines()

    def log(self) -> str:
        return (self.directory / "front").read_text()

    def open_connections(self) -> int:
        """How many descriptors the front has."""
        return len(list(Path(f"/proc/{self.front.pid}/fd").iterdir()))


def chat(**asked: float) -> bytes:
    """The bytes of a chat request with a key."""
    body = json.dumps(asked)
    return (f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n{BEARER}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}").encode()


@contextlib.contextmanager
def serving(directory: Path, *networks: str, engine: bool = True, health: int = 200,
            more: Path | None = None, secure: ssl.SSLContext | None = None, runner: str = f"{__package__}.run_front",
            **limits: object) -> Iterator[Serving]:
    """Start both, and wait until /health has that status; end both."""
    with contextlib.ExitStack() as ending:
        port, manage_port = (ending.enter_context(reserved_port()).getsockname()[1] for _ in range(2))
        # The path of a socket has at most 107 characters, which pytest's directories can have alone.
        short = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="vmt-"))) / "to"
        short.symlink_to(directory)
        upstream = str(short / "engine.sock")

        def start(log: str, *words: str) -> subprocess.Popen[bytes]:
            output = ending.enter_context((directory / log).open("wb"))
            process = subprocess.Popen([sys.executable, "-m", *words], stdout=output, stderr=output)
            ending.callback(process.wait, 30)
            ending.callback(process.kill)
            return process

        behind = None
        if engine:
            behind = start("engine.output", f"{__package__}.engine", upstream, str(directory / "engine"))
        front = start("front", runner, upstream, str(port), str(manage_port), json.dumps(limits),
                      str(more or "-"), *networks)
        one = Serving(port, front, behind, directory, manage_port, secure)
        until(lambda: answers(one, health) or has_ended(behind) or has_ended(front), "the front does not answer")
        assert not has_ended(behind), (directory / "engine.output").read_text()
        assert not has_ended(front), one.log()
        yield one
        assert front.poll() is None, f"the front has ended: {one.log()}"


def reserved_port() -> socket.socket:
    """A socket that is bound to a free port of the loopback, and keeps it from everybody who asks for any port.

    It does not listen, so a server with SO_REUSEADDR gets that port all the same (socket(7)). A port that was only
    looked up can be another process's before the server that it is meant for is there.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def has_ended(process: subprocess.Popen[bytes] | None) -> bool:
    return process is not None and process.poll() is not None


def answers(one: Serving, status: int) -> bool:
    """Whether /health has that status."""
    with contextlib.suppress(OSError):
        return one.ask("GET", "/health", "")[0] == status
    return False


def everything(connection: socket.socket) -> bytes:
    """Read to the end; what a reset takes is lost."""
    data = bytearray()
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(1 << 16):
            data += piece
    return bytes(data)


def parse(answer: bytes) -> tuple[int, bytes]:
    """Status and body of an answer; 0 when there was none."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return (int(head.split(b" ", 2)[1]), body) if head.startswith(b"HTTP/") else (0, body)


def until(true: Callable[[], bool], otherwise: str) -> None:
    """Look until it is true."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)
