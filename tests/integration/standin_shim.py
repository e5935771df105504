"""A stand-in for Kata's shim: it starts no VM. It records what containerd asks of it and runs a stand-in for QEMU.

It speaks containerd's protocol for shims (ttrpc, service containerd.task.v2.Task), reads the configuration that it is
given, as Kata would, and runs the program of `hypervisor.qemu.path` with arguments like Kata's. With BEHAVIOUR=patched
they are those of virtCCA; otherwise those of the ordinary VM that a stock shim starts in silence. `ctr task exec` runs
nothing either: vmtool's receiver of keys has its stdin kept in the file `key`, and `grep` answers with the file `says`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(os.environ["STANDIN_DIR"])
HEADER = struct.Struct(">IIBB")
REQUEST, RESPONSE = 1, 2
CREATED, RUNNING, STOPPED = 1, 2, 3
TMM = "-object tmm-guest,id=tmm0,sve-vector-length=128,num-pmu-counters=1"


def main() -> None:
    """`start` leaves a server behind and prints its address; `delete` cleans up after a server that died."""
    if sys.argv[-1] == "delete":
        sys.stdout.buffer.write(field(1, 0) + field(2, 137))
    elif sys.argv[-1] == "start":
        name = sys.argv[sys.argv.index("-id") + 1]
        path = HERE / f"{name}.sock"
        listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen()
        if os.fork() == 0:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for number in range(3):
                os.dup2(null, number)
            Shim(name).serve(listener)
            os._exit(0)
        print(f"unix://{path}", end="")


class Shim:
    """One task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.qemu: subprocess.Popen[bytes] | None = None
        self.bundle = ""
        self.execs: dict[bytes, Exec] = {}

    def serve(self, listener: socket.socket) -> None:
        """Answer until Shutdown."""
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        """Answer one client; each request in its own thread, since Wait takes as long as the task."""
        stream = connection.makefile("rb")
        writing = threading.Lock()

        def answer(number: int, request: dict[int, Any]) -> None:
            method = request[2].decode()
            try:
                payload = getattr(self, method.lower(), self.nothing)(fields(request.get(3, b"")))
                body = field(2, payload)
            except (OSError, KeyError, ValueError) as error:
                body = field(1, field(1, 2) + field(2, f"stand-in shim: {error}".encode()))
            with writing:
                connection.sendall(HEADER.pack(len(body), number, RESPONSE, 0) + body)
            if method == "Shutdown":
                os._exit(0)

        while head := stream.read(HEADER.size):
            length, number, kind, _ = HEADER.unpack(head)
            data = stream.read(length)
            if kind == REQUEST:
                threading.Thread(target=answer, args=(number, fields(data)), daemon=True).start()

    def nothing(self, request: dict[int, Any]) -> bytes:
        return b""

    def create(self, request: dict[int, Any]) -> bytes:
        """Record the request; start the stand-in for QEMU, as Kata does when the sandbox is made."""
        self.bundle = request[2].decode()
        options = fields(request[10])
        config = fields(options[2]).get(2, b"").decode()
        spec = json.loads(Path(self.bundle, "config.json").read_text())
        (HERE / "asked.json").write_text(json.dumps(
            {"id": request[1].decode(), "type": options[1].decode(), "config_path": config, "spec": spec}))
        qemu = tomllib.loads(Path(config).read_text())["hypervisor"]["qemu"]
        patched = (HERE / "behaviour").read_text() == "patched"
        words = f"-name sandbox-{self.name},debug-threads=on -machine virt,accel=kvm,gic-version=host"
        words += f",kernel_irqchip=on,kvm-type=cvm {TMM}" if patched and qemu["confidential_guest"] else ""
        words += f" -m {qemu['default_memory']}M -drive id=image-0,file={qemu['image']},format=raw,readonly=on"
        words += f" -kernel {qemu['kernel']} -nodefaults"
        # The program is a shell under QEMU's name: it waits for a word on a pipe that nobody writes.
        self.qemu = subprocess.Popen([qemu["path"], "-c", f"read -r word < {HERE / 'never'}", *words.split(),
                                      "-append", qemu.get("kernel_params", "")])
        (HERE / "qemu.pid").write_text(str(self.qemu.pid))
        (HERE / "shim.pid").write_text(str(os.getpid()))
        return field(1, self.qemu.pid)

    def exec(self, request: dict[int, Any]) -> bytes:
        words = json.loads(fields(request[7])[2])["args"]
        self.execs[request[2]] = Exec(words, *(request.get(number, b"").decode() for number in (4, 5, 6)))
        return b""

    def start(self, request: dict[int, Any]) -> bytes:
        if request.get(2):
            threading.Thread(target=self.execs[request[2]].run, daemon=True).start()
        return field(1, self.pid)

    def state(self, request: dict[int, Any]) -> bytes:
        if request.get(2):
            ended = self.execs[request[2]].ended.is_set()
            return field(3, self.pid) + field(4, STOPPED if ended else RUNNING) + field(11, request[2])
        status = STOPPED if self.qemu is None or self.qemu.poll() is not None else RUNNING
        return field(1, self.name.encode()) + field(2, self.bundle.encode()) + field(3, self.pid) + field(4, status)

    def kill(self, request: dict[int, Any]) -> bytes:
        if self.qemu and self.qemu.poll() is None:
            self.qemu.send_signal(signal.SIGKILL)
        return b""

    def wait(self, request: dict[int, Any]) -> bytes:
        if request.get(2):
            self.execs[request[2]].ended.wait()
            return field(1, self.execs[request[2]].status) + field(2, field(1, 1))
        if self.qemu:
            self.qemu.wait()
        return field(1, 137) + field(2, field(1, 1))

    def delete(self, request: dict[int, Any]) -> bytes:
        if request.get(2):
            return field(1, self.pid) + field(2, self.execs.pop(request[2]).status) + field(3, field(1, 1))
        return field(1, self.pid) + field(2, 137) + field(3, field(1, 1))

    def connect(self, request: dict[int, Any]) -> bytes:
        return field(1, os.getpid()) + field(2, self.pid) + field(3, b"v2")

    def pids(self, request: dict[int, Any]) -> bytes:
        return field(1, field(1, self.pid))

    @property
    def pid(self) -> int:
        return self.qemu.pid if self.qemu else 0


class Exec:
    """A process in the container, which there is not: what it would read is kept, what it would say is read."""

    def __init__(self, words: list[str], stdin: str, stdout: str, stderr: str) -> None:
        self.words, self.stdin, self.stdout, self.stderr = words, stdin, stdout, stderr
        self.status, self.ended = 127, threading.Event()

    def run(self) -> None:
        said = b""
        if "vmtool.serving.receive_keys" in self.words:
            (HERE / "key").write_bytes(Path(self.stdin).read_bytes())
            self.status = 0
        elif self.words[0] == "grep" and (HERE / "says").exists():
            said, self.status = (HERE / "says").read_bytes(), 0
        for path, data in ((self.stdout, said), (self.stderr, b"")):
            if path:
                Path(path).write_bytes(data)
        self.ended.set()


def fields(data: bytes) -> dict[int, Any]:
    """A protobuf message's fields by number; of a repeated one the last."""
    return dict(_fields(data))


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at:at + length]
            at += length
        else:
            raise ValueError(f"wire type {tag & 7}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return _encoded(number << 3) + _encoded(value)
    return _encoded(number << 3 | 2) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


if __name__ == "__main__":
    main()
