"""A server of fake PCI devices over vfio-user, for QEMU's vfio-user-pci: no library, no hardware.

Each device has a configuration space (PM and PCIe capabilities, INTA), BARs that remember what is written, and a reset
that forgets it. NVIDIA's open driver (535) binds to one with the registers of a "gpu": it asks for an interrupt pin,
BAR0, BAR1 and BAR3, and for the chip's id in two registers. Protocol: QEMU, docs/interop/vfio-user.rst, version 0.0.

    python -m tests.lab.vfu '[{"path": "0.sock", "vendor": 4318, "device": 9008, "class_code": 197120, ...}]'

It says "ready" when all sockets listen, serves one connection after the other on each, and ends with its stdin.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<HHIII")
LONGEST = 2 << 20
VERSION, DMA_MAP, DMA_UNMAP, DEVICE_INFO, REGION_INFO = 1, 2, 3, 4, 5
IRQ_INFO, SET_IRQS, READ, WRITE, RESET = 7, 8, 9, 10, 13
REPLY, NO_REPLY, FAILED, UNSUPPORTED, INVALID = 0x1, 0x10, 0x20, 95, 22
CONFIG = 7                                             # the region's index; 0 to 5 are the BARs
FLAG_FLR, FLAG_ROLE_BASED = 1 << 28, 1 << 15
PMC_BOOT_0, PMC_BOOT_42 = (0x0, 0x180000A1), (0xA00, 0x180A1000)     # NVIDIA's registers: GH100, chip id 0x180


class Device:
    """The registers of one device; no access to them can fail, as on a bus."""

    def __init__(self, vendor: int, device: int, class_code: int, registers: str, flr: bool) -> None:
        self._identity = (vendor, device, class_code, registers, flr)
        self.sizes = {0: 16 << 20, 1: 64 << 20, 3: 32 << 20} if registers != "none" else {0: 64 << 10}
        self.resets = 0
        self._regions: dict[int, bytearray] = {}
        self.power_on()

    def power_on(self) -> None:
        """Set all registers as after a reset."""
        vendor, device, class_code, registers, flr = self._identity
        config = bytearray(4096)
        struct.pack_into("<HHHH", config, 0x00, vendor, device, 0, 0x10)             # status: capability list
        struct.pack_into("<I", config, 0x08, class_code << 8 | 0xA1)
        if len(self.sizes) == 3:                       # BAR1 and BAR3: 64 bits, prefetchable, as on a GH100
            struct.pack_into("<I", config, 0x14, 0xC)
            struct.pack_into("<I", config, 0x1C, 0xC)
        struct.pack_into("<HH", config, 0x2C, vendor, 0x16C1)
        config[0x34], config[0x3D] = 0x60, 1           # first capability; INTA
        struct.pack_into("<BBHH", config, 0x60, 0x01, 0x70, 3, 0x8)                  # PM, no_soft_reset
        struct.pack_into("<BBHI", config, 0x70, 0x10, 0, 0x0002, FLAG_ROLE_BASED | (FLAG_FLR if flr else 0))
        # Only the first registers of a BAR are kept; what lies beyond reads as zero.
        self._regions = {CONFIG: config, **{bar: bytearray(65536 if bar == 0 else 4096) for bar in self.sizes}}
        if registers == "gpu":
            for offset, value in (PMC_BOOT_0, PMC_BOOT_42):
                struct.pack_into("<I", self._regions[0], offset, value)

    def read(self, region: int, offset: int, count: int) -> bytes:
        """`count` bytes of a region."""
        return bytes(self._regions.get(region, b"")[offset:offset + count]).ljust(count, b"\0")

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Store bytes; vendor and device ids stay."""
        kept = self._regions.get(region)
        if kept is not None and offset + len(data) <= len(kept) and not (region == CONFIG and offset < 4):
            kept[offset:offset + len(data)] = data

    def answer(self, command: int, body: bytes) -> bytes | None:
        """The reply to a message's body; None for a command that we do not know."""
        plain: dict[int, Callable[[], bytes]] = {
            VERSION: lambda: struct.pack("<HH", 0, 0) + json.dumps(
                {"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1 << 20}}).encode() + b"\0",
            DMA_MAP: bytes, SET_IRQS: bytes,
            DMA_UNMAP: lambda: body[:24],
            DEVICE_INFO: lambda: struct.pack("<IIII", 16, 3, 9, 5),                  # resettable PCI; regions; irqs
            REGION_INFO: lambda: self._region_info(struct.unpack_from("<I", body, 8)[0]),
            IRQ_INFO: lambda: self._irq_info(struct.unpack_from("<I", body, 8)[0]),
            READ: lambda: self._access(body), WRITE: lambda: self._access(body, write=True),
            RESET: self._reset,
        }
        return plain[command]() if command in plain else None

    def _region_info(self, region: int) -> bytes:
        size = 4096 if region == CONFIG else self.sizes.get(region, 0)
        return struct.pack("<IIIIQQ", 32, 3 if size else 0, region, 0, size, 0)

    def _irq_info(self, index: int) -> bytes:
        wired = index in (0, 3, 4)                     # INTx, error, request
        return struct.pack("<IIII", 16, 1 if wired else 0, index, 1 if wired else 0)

    def _access(self, body: bytes, write: bool = False) -> bytes:
        offset, region, count = struct.unpack_from("<QII", body)
        if count > LONGEST:
            raise ValueError(f"an access of {count} bytes")
        if write:
            self.write(region, offset, body[16:16 + count])
            return body[:16]
        return body[:16] + self.read(region, offset, count)

    def _reset(self) -> bytes:
        self.resets += 1
        self.power_on()
        return b""


def converse(connection: socket.socket, device: Device) -> None:
    """Answer one client until it goes."""
    while True:
        number, command, size, flags, _ = HEADER.unpack(_receive(connection, HEADER.size))
        if not HEADER.size <= size <= LONGEST:
            raise EOFError(f"a message of {size} bytes")
        try:
            reply, error = device.answer(command, _receive(connection, size - HEADER.size)), UNSUPPORTED
        except (struct.error, ValueError):
            reply, error = None, INVALID
        if not flags & NO_REPLY:
            outcome = (REPLY | FAILED, error) if reply is None else (REPLY, 0)
            body = reply or b""
            connection.sendall(HEADER.pack(number, command, HEADER.size + len(body), *outcome) + body)


def serve(listener: socket.socket, device: Device) -> None:
    """Serve one client after the other: QEMU comes again when the machine is started again."""
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(EOFError, OSError):
            converse(connection, device)
        device.power_on()


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. The memory that comes along as descriptors is not for us: these devices do no DMA."""
    got = b""
    while len(got) < size:
        data, descriptors, _, _ = socket.recv_fds(connection, size - len(got), 8)
        for each in descriptors:
            os.close(each)
        if not data:
            raise EOFError
        got += data
    return got


def main(specs: list[dict[str, Any]]) -> None:
    """Listen on all sockets, say so, and serve until stdin ends."""
    for spec in specs:
        path = Path(spec.pop("path"))
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.fspath(path))
        listener.listen(1)
        threading.Thread(target=serve, args=(listener, Device(**spec)), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
