"""Starts `vmtool connect` as a person does, and servers for it: honest ones and hostile ones."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.snp_signer import MEASUREMENT, signer
from tests.integration.serving.certificates import issue, lines, trusting
from tests.integration.serving.processes import Serving, serving
from tests.integration.serving.run_front import KEY, MANAGER, MANAGERS_LINE

ATTESTED = f"{__package__}.run_attested"
HEAD = "apiVersion: vmtool/v1\nkind: ConnectPolicy\n"
SNP = f"{HEAD}roots: roots\nreference: {{snp: {{measurement: '{MEASUREMENT.hex()}'}}}}\n"
UNCONFIDENTIAL = f"{HEAD}allow_unconfidential: true\n"
VMTOOL = str(Path(sys.executable).with_name("vmtool"))
SECONDS = 60


@contextlib.contextmanager
def attested(directory: Path, **limits: float) -> Iterator[Serving]:
    """A front with TLS, in a guest of the tests' processor."""
    (directory / "list").write_text(lines(issue(directory / "ca")))
    signer().save(directory)
    behave(directory, "honest")
    with serving(directory, more=directory / "list", secure=trusting(directory / "ca"), runner=ATTESTED,
                 **limits) as one:  # type: ignore[arg-type]
        yield one


def behave(directory: Path, how: str) -> None:
    """What the guest's device does from now on."""
    (directory / "behaviour.new").write_text(how)
    (directory / "behaviour.new").rename(directory / "behaviour")


def renew(one: Serving) -> None:
    """Another TLS key for new connections."""
    manage = Serving(one.manage_port, one.front, one.engine, one.directory, 0, one.secure)
    body = f"{KEY}\n{MANAGERS_LINE}{lines(issue(one.directory / 'ca'))}".encode()
    assert manage.ask("PUT", "/access", f"Authorization: Bearer {MANAGER}\r\n", body)[0] == 200


class ByItsName(Serving):
    """The local endpoint, asked by this machine's own name, which it insists on."""

    def say(self, data: bytes | str) -> bytes:
        return super().say(named(data.encode() if isinstance(data, str) else data))


def named(request: bytes) -> bytes:
    return request.replace(b"Host: x\r\n", b"Host: localhost\r\n")


@dataclass(frozen=True)
class Local:
    """A `vmtool connect` that is ready: what it said, and its port."""

    process: subprocess.Popen[str]
    said: dict[str, object]
    serving: Serving
    errors: Path

    @property
    def url(self) -> str:
        return f"{self.said['listen']}/v1"


def written(directory: Path, policy: str) -> Path:
    path = directory / "policy.yaml"
    path.write_text(policy)
    return path


def argv(directory: Path, url: str, policy: str, *more: str) -> list[str]:
    return [VMTOOL, "connect", url, "--policy", str(written(directory, policy)), "--json", *more]


def refused(directory: Path, url: str, policy: str, *more: str) -> tuple[int, str]:
    """The exit code and the words of one that does not begin."""
    done = subprocess.run(argv(directory, url, policy, "--listen", "127.0.0.1:0", *more), capture_output=True,
                          text=True, timeout=SECONDS, check=False)
    return done.returncode, done.stderr


@contextlib.contextmanager
def connected(directory: Path, url: str, policy: str, *more: str) -> Iterator[Local]:
    """One that has verified; it ends cleanly at Ctrl-C."""
    errors = directory / "connect.errors"
    with errors.open("w") as log, subprocess.Popen(
            argv(directory, url, policy, "--listen", "127.0.0.1:0", *more), stdout=subprocess.PIPE, stderr=log,
            text=True) as process:
        try:
            assert process.stdout
            said = json.loads(_document(process.stdout))
            port = int(str(said["listen"]).rpartition(":")[2])
            yield Local(process, said, ByItsName(port, process, None, directory), errors)  # type: ignore[arg-type]
            process.send_signal(signal.SIGINT)
            assert process.wait(SECONDS) == 0, errors.read_text()
        finally:
            process.kill()


def _document(lines: Iterator[str]) -> str:
    text = ""
    for line in lines:
        text += line
        if line == "}\n":
            return text
    return text


Script = Callable[[bytes], Sequence[bytes]]


@contextlib.contextmanager
def hostile(directory: Path, answers: Script, *, gap: float = 0.0) -> Iterator[str]:
    """A server with TLS that answers a request's head as the script says, piece by piece; its URL."""
    pair = issue(directory / "hostile")
    (directory / "pair.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "pair.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def serve(plain: socket.socket) -> None:
            with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as connection:
                head = b""
                while b"\r\n\r\n" not in head and (piece := connection.recv(1 << 16)):
                    head += piece
                for piece in answers(head):
                    connection.sendall(piece)
                    if gap and ended.wait(gap):
                        return

        def accept() -> None:
            while True:
                try:
                    plain = listening.accept()[0]
                except OSError:
                    return
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)


def until(true: Callable[[], bool], otherwise: str) -> None:
    """Look until it is true."""
    end = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < end, otherwise
        time.sleep(0.05)
