"""The guest's kernel, as the collectors ask it: device files, configfs, and the host's quoting service."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

# No report, certificate table or event log is longer.
MOST = 256 << 10
SECONDS = 8.0
HOST = 2  # VMADDR_CID_HOST of vsock(7)


class Agent(Protocol):
    """The attestation agent of Confidential Containers (`vmtool.serving.kbs.guest_agent`)."""

    @property
    def tee(self) -> str: ...
    def evidence(self, digest: bytes) -> Any: ...


class NotCollected(Exception):
    """The device is there and gave no evidence: why, for whoever asked."""


class Guest(Protocol):
    """What a guest's kernel offers. Each raises OSError."""

    def exists(self, path: str) -> bool: ...
    def read(self, path: str) -> bytes: ...
    def write(self, path: str, data: bytes) -> None: ...
    def make_dir(self, path: str) -> None: ...
    def remove_dir(self, path: str) -> None: ...
    def ioctl(self, path: str, number: int, argument: Any, after: int = 0) -> bytes: ...
    def session(self, path: str) -> AbstractContextManager[Callable[[bytes], bytes]]: ...
    def ask_host(self, port: int, message: bytes) -> bytes: ...
    def agent(self) -> Agent | None: ...


class LocalGuest:
    """The one that this process is in."""

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def read(self, path: str) -> bytes:
        """A file's content, whose end may show only in a read of nothing."""
        data = bytearray()
        with open(path, "rb", buffering=0) as file:
            while len(data) <= MOST and (piece := file.read(MOST)):
                data += piece
        if len(data) > MOST:
            raise OSError(f"{path}: more than {MOST >> 10} KiB")
        return bytes(data)

    def write(self, path: str, data: bytes) -> None:
        """In one write, as an attribute of configfs takes it."""
        with open(path, "wb", buffering=0) as file:
            file.write(data)

    def make_dir(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def remove_dir(self, path: str) -> None:
        os.rmdir(path)

    def ioctl(self, path: str, number: int, argument: Any, after: int = 0) -> bytes:
        """An ioctl with a ctypes structure, which the kernel changes.

        Args:
            after: that many bytes are then read from the device.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, number, argument)
            return os.read(descriptor, after) if after else b""
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def session(self, path: str) -> Iterator[Callable[[bytes], bytes]]:
        """Commands to a TPM on one open file: its resource manager forgets all keys when that is closed."""
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)

        def ask(command: bytes) -> bytes:
            os.write(descriptor, command)
            return os.read(descriptor, 4096)

        try:
            yield ask
        finally:
            os.close(descriptor)

    def ask_host(self, port: int, message: bytes) -> bytes:
        """Ask a service of the host over vsock: four bytes with the length, big-endian, before message and answer."""
        with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as connection:
            connection.settimeout(SECONDS)
            connection.connect((HOST, port))
            connection.sendall(len(message).to_bytes(4, "big") + message)
            size = int.from_bytes(_exactly(connection, 4), "big")
            if size > MOST:
                raise OSError(f"the host's answer has {size} bytes")
            return _exactly(connection, size)

    def agent(self) -> Agent | None:
        """What answers on the guest's loopback, where all containers of its pod are."""
        from vmtool.serving.kbs.guest_agent import find_agent  # where there is a device, nothing of it is loaded

        return find_agent()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise OSError("the host broke off")
        data += piece
    return bytes(data)


def io_number(kind: str, number: int, size: int, *, write: bool = True) -> int:
    """_IOWR, or _IOR, of asm-generic/ioctl.h."""
    return (3 if write else 2) << 30 | size << 16 | ord(kind) << 8 | number


def address(of: Any) -> int:
    """Where a ctypes object lies, for structures that hold pointers."""
    return ctypes.addressof(of)
