"""Runs commands in the guest for the lab: one frame in, one or two out, over a virtio-serial port.

A frame is MAGIC, the lengths of a JSON head and of a body, the head, the body; both sides look for MAGIC first, so a
stream cut by a reset or a restored snapshot mends itself. Each command has a thread of its own: one that hangs in the
kernel does not stop the next. Standard library only; the host's side imports the frames from here.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

MAGIC = b"\xffVMLAB\xfe\n"
LENGTHS = struct.Struct(">II")
LONGEST_HEAD, LONGEST_BODY = 1 << 20, 256 << 20
PORT = "vmtool.lab"
GRACE = 2.0
PCI, CONFIGS = Path("/sys/bus/pci/devices"), Path("/run/lab-pci")
Head = dict[str, Any]


def pack(head: Head, body: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(head).encode()
    return MAGIC + LENGTHS.pack(len(text), len(body)) + text + body


def unpack(read: Callable[[int], bytes]) -> tuple[Head, bytes]:
    """The next whole frame; `read(n)` gives exactly n bytes."""
    while True:
        seen = read(len(MAGIC))
        while seen != MAGIC:
            seen = seen[1:] + read(1)
        head, body = LENGTHS.unpack(read(LENGTHS.size))
        if head <= LONGEST_HEAD and body <= LONGEST_BODY:
            with contextlib.suppress(ValueError):
                return dict(json.loads(read(head))), read(body)


def run(head: Head, body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Run `argv` with `body` on stdin; answer first the pid, then the status and both outputs.

    Files, not pipes, take the outputs: a daemon that the command leaves behind must not keep us waiting.
    """
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(body)
        given.seek(0)
        try:
            child = subprocess.Popen(head["argv"], stdin=given, stdout=out, stderr=err, start_new_session=True,
                                     env=os.environ | head["env"], cwd=head["cwd"])
        except OSError as error:
            send({"id": head["id"], "status": 127, "out": 0}, f"{head['argv'][0]}: {error.strerror}".encode())
            return
        send({"id": head["id"], "pid": child.pid}, b"")
        try:
            child.wait(head["deadline"])
            late: list[str] = []
        except subprocess.TimeoutExpired:
            late = _end(child)
        outputs = [_content(out), _content(err)]
        send({"id": head["id"], "status": child.returncode, "out": len(outputs[0]), "late": late}, b"".join(outputs))


def _end(child: subprocess.Popen[bytes]) -> list[str]:
    """Kill what passed its deadline, and tell what it was doing: state, wait channel, kernel stack."""
    told = [f"no end by its deadline; {Path('/proc', str(child.pid), 'comm').read_text().strip()}"]
    for name in ("wchan", "stack"):
        with contextlib.suppress(OSError):
            told += Path("/proc", str(child.pid), name).read_text().splitlines()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(GRACE)
    return told + (["killed"] if child.returncode is not None else ["not to be killed: abandoned"])


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(LONGEST_BODY // 2)


def put(head: Head, body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Write a file."""
    path = Path(head["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    path.chmod(head["mode"])
    send({"id": head["id"]}, b"")


def get(head: Head, _body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Read a file."""
    send({"id": head["id"]}, Path(head["path"]).read_bytes())


def ping(head: Head, _body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Say which boot this is, and take the host's time: a restored snapshot's clock stands where it was saved."""
    if abs(time.time() - head["time"]) > 1:
        time.clock_settime(time.CLOCK_REALTIME, head["time"])
    send({"id": head["id"], "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip()}, b"")


def remember(head: Head, _body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Keep every PCI device's configuration in memory, so that a snapshot taken now has it."""
    CONFIGS.mkdir(parents=True, exist_ok=True)
    for device in PCI.iterdir():
        (CONFIGS / device.name).write_bytes((device / "config").read_bytes())
    send({"id": head["id"]}, b"")


def remind(head: Head, _body: bytes, send: Callable[[Head, bytes], None]) -> None:
    """Give the devices back the configuration that they had in the snapshot.

    QEMU saves that of the devices it emulates; a vfio-user device comes out of a restore as out of a reset, with
    neither addresses nor memory decoding, while its driver believes it is ready.
    """
    for saved in CONFIGS.iterdir():
        wanted, file = saved.read_bytes(), PCI / saved.name / "config"
        if file.read_bytes()[:64] != wanted[:64]:
            with file.open("r+b", buffering=0) as config:
                for at in _writable(wanted):
                    os.pwrite(config.fileno(), wanted[at:at + 4], at)
    send({"id": head["id"]}, b"")


def _writable(config: bytes) -> list[int]:
    """Offsets: BARs, ROM, interrupt line; then power state (PM) and device control (PCIe); the command at the end."""
    offsets, at = [*range(0x10, 0x28, 4), 0x30, 0x3C], config[0x34]
    while at:
        offsets += {0x01: [at + 4], 0x10: [at + 8]}.get(config[at], [])
        at = config[at + 1]
    return [*offsets, 0x04]


def serve(port: str) -> None:
    """Answer for ever. With no host on the other side a read gives nothing: wait for one."""
    descriptor = os.open(port, os.O_RDWR)
    turn = threading.Lock()
    answers = {each.__name__: each for each in (run, put, get, ping, remember, remind)}

    def read(size: int) -> bytes:
        got = b""
        while len(got) < size:
            piece = os.read(descriptor, size - len(got))
            got += piece
            if not piece:
                time.sleep(0.05)
        return got

    def send(head: Head, body: bytes) -> None:
        left = memoryview(pack(head, body))
        with turn:
            while left:
                left = left[os.write(descriptor, left):]

    def answer(head: Head, body: bytes) -> None:
        try:
            answers[head["do"]](head, body, send)
        except Exception as error:
            send({"id": head["id"], "error": f"{type(error).__name__}: {error}"}, b"")

    while True:
        threading.Thread(target=answer, args=unpack(read), daemon=True).start()


def find_port() -> str:
    """The port's device, also where no udev has made a link."""
    while True:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text().strip() == PORT:
                return f"/dev/{name.parent.name}"
        time.sleep(0.1)


if __name__ == "__main__":
    serve(sys.argv[1] if len(sys.argv) > 1 else find_port())
