"""The server of fake devices, spoken to as QEMU does."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import qemu, vfu
from tests.lab.topology import H100_PAIR, Topology, nvswitch


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """The socket of the first H100 of a running server."""
    server = qemu.serve_fakes(H100_PAIR, tmp_path)
    yield next(iter(sorted(tmp_path.glob("*.sock"))))
    qemu.end(server)


def ask(connection: socket.socket, command: int, body: bytes = b"") -> tuple[int, bytes]:
    """The error number and the body of a reply."""
    connection.sendall(vfu.HEADER.pack(7, command, vfu.HEADER.size + len(body), 0, 0) + body)
    number, replied, size, flags, error = vfu.HEADER.unpack(connection.recv(vfu.HEADER.size, socket.MSG_WAITALL))
    assert (number, replied, flags & vfu.REPLY) == (7, command, vfu.REPLY)
    return error, connection.recv(size - vfu.HEADER.size, socket.MSG_WAITALL) if size > vfu.HEADER.size else b""


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(path))
    return connection


def read(connection: socket.socket, region: int, offset: int, count: int) -> bytes:
    error, body = ask(connection, vfu.READ, struct.pack("<QII", offset, region, count))
    assert error == 0
    return body[16:]


def write(connection: socket.socket, region: int, offset: int, data: bytes) -> int:
    return ask(connection, vfu.WRITE, struct.pack("<QII", offset, region, len(data)) + data)[0]


def test_an_h100_says_who_it_is(path: Path) -> None:
    with connect(path) as qemu_side:
        assert json.loads(ask(qemu_side, vfu.VERSION, struct.pack("<HH", 0, 0) + b"{}\0")[1][4:-1])["capabilities"]
        assert struct.unpack("<HH", read(qemu_side, vfu.CONFIG, 0, 4)) == (0x10DE, 0x2330)
        assert read(qemu_side, vfu.CONFIG, 9, 3) == bytes([0x00, 0x02, 0x03])
        assert struct.unpack("<I", read(qemu_side, 0, 0, 4))[0] == 0x180000A1
        infos = [ask(qemu_side, vfu.REGION_INFO, struct.pack("<III", 0, 0, bar))[1] for bar in range(4)]
        assert [struct.unpack_from("<Q", info, 16)[0] >> 20 for info in infos] == [16, 64, 0, 32]


def test_registers_remember_until_a_reset(path: Path) -> None:
    with connect(path) as qemu_side:
        assert write(qemu_side, 0, 0x100, b"seen") == 0
        assert write(qemu_side, vfu.CONFIG, 0, b"\0\0\0\0") == 0
        assert read(qemu_side, 0, 0x100, 4) == b"seen"
        assert read(qemu_side, vfu.CONFIG, 0, 2) == b"\xde\x10"
        ask(qemu_side, vfu.RESET)
        assert read(qemu_side, 0, 0x100, 4) == bytes(4)


def test_it_serves_the_next_client_after_one_has_gone(path: Path) -> None:
    for _ in range(3):
        with connect(path) as qemu_side:
            assert read(qemu_side, vfu.CONFIG, 0, 2) == b"\xde\x10"


@pytest.mark.parametrize("message", [
    vfu.HEADER.pack(1, vfu.READ, 4, 0, 0), vfu.HEADER.pack(1, vfu.WRITE, 1 << 31, 0, 0), b"\0" * 7,
], ids=["shorter than its header", "2 GiB", "cut"])
def test_a_broken_client_is_dropped(path: Path, message: bytes) -> None:
    with connect(path) as broken:
        broken.sendall(message)
        broken.shutdown(socket.SHUT_WR)
        assert broken.recv(1) == b""
    with connect(path) as qemu_side:
        assert read(qemu_side, vfu.CONFIG, 0, 2) == b"\xde\x10"


def test_what_it_does_not_know_is_an_error_not_an_end(path: Path) -> None:
    with connect(path) as qemu_side:
        assert ask(qemu_side, 99)[0] == vfu.UNSUPPORTED
        assert ask(qemu_side, vfu.READ, b"short")[0] == vfu.INVALID
        assert ask(qemu_side, vfu.READ, struct.pack("<QII", 0, 0, 1 << 30))[0] == vfu.INVALID
        assert read(qemu_side, vfu.CONFIG, 0, 2) == b"\xde\x10"


def test_without_flr_there_is_no_such_capability() -> None:
    for flr, bit in ((True, 1), (False, 0)):
        device = vfu.Device(0x10DE, 0x2330, 0x030200, "gpu", flr)
        assert struct.unpack("<I", device.read(vfu.CONFIG, 0x74, 4))[0] >> 28 & 1 == bit


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    server = qemu.serve_fakes(Topology("one", (nvswitch("port0"),)), tmp_path)
    assert server.stdin
    server.stdin.close()
    assert server.wait(60) == 0
    qemu.end(server)
