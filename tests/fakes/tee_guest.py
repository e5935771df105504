"""A guest's kernel as the collectors of evidence see it: device files and configfs that answer as Linux does."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vmtool.serving.evidence import sev_guest, tdx_guest, tsi, tsm
from vmtool.serving.evidence.guest import Agent

Report = Callable[[bytes], bytes]


def fails(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class FakeGuest:
    """What is there is what was given.

    Args:
        provider: of configfs-tsm, "" for one without a provider, None for a kernel without it.
        report: of the provider: from REPORT_DATA to the report.
        auxiliary: what the provider gives along.
        devices: handlers of ioctl by path: (number, structure) -> what may be read afterwards.
        files: further files.
        answering: the attestation agent on its loopback.
    """

    provider: str | None = None
    report: Report = bytes
    auxiliary: bytes | None = None
    devices: dict[str, Callable[[int, Any], bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    tpm: Callable[[bytes], bytes] | None = None
    host: Callable[[int, bytes], bytes] | None = None
    answering: Agent | None = None
    generation: int = 0
    inblob: bytes | None = None
    there: bool = False
    interfering: bool = False

    def exists(self, path: str) -> bool:
        return path in self.devices or path in self.files or (path == tsm.ROOT and self.provider is not None) or (
            self.tpm is not None and path == "/dev/tpmrm0")

    def make_dir(self, path: str) -> None:
        assert path == tsm.ENTRY
        if not self.provider:
            raise fails(errno.ENXIO)
        if self.there:
            raise fails(errno.EEXIST)
        self.there, self.generation, self.inblob = True, 0, None

    def remove_dir(self, path: str) -> None:
        if not self.there:
            raise fails(errno.ENOENT)
        self.there = False

    def write(self, path: str, data: bytes) -> None:
        """tsm_report_inblob_write(): at most 64 bytes, and each write is a generation."""
        assert self.there and path == f"{tsm.ENTRY}/inblob"
        if len(data) > 64:
            raise fails(errno.EINVAL)
        self.inblob, self.generation = data, self.generation + 1 + self.interfering

    def read(self, path: str) -> bytes:
        name = path.removeprefix(f"{tsm.ENTRY}/")
        if name == path:
            if path not in self.files:
                raise fails(errno.ENOENT)
            return self.files[path]
        assert self.there
        if name == "provider":
            return f"{self.provider}\n".encode()
        if name == "generation":
            return f"{self.generation}\n".encode()
        if self.inblob is None:
            raise fails(errno.EINVAL)
        if name == "outblob":
            return self.report(self.inblob)
        if name != "auxblob" or self.auxiliary is None:
            raise fails(errno.ENOENT)
        return self.auxiliary

    def ioctl(self, path: str, number: int, argument: Any, after: int = 0) -> bytes:
        return self.devices[path](number, argument)[:after]

    @contextlib.contextmanager
    def session(self, path: str) -> Iterator[Callable[[bytes], bytes]]:
        assert self.tpm
        yield self.tpm

    def agent(self) -> Agent | None:
        return self.answering

    def ask_host(self, port: int, message: bytes) -> bytes:
        if not self.host:
            raise fails(errno.ENODEV)
        return self.host(port, message)


def sev_guest_device(report: Report, table: bytes = b"") -> Callable[[int, Any], bytes]:
    """snp_guest_ioctl(): a host without room for its certificates says so, and how much they need."""
    def ioctl(number: int, request: Any) -> bytes:
        assert request.version == 1
        if number == sev_guest.GET_EXTENDED_REPORT:
            asked = sev_guest.ExtendedRequest.from_address(request.request)
            if len(table) > asked.size:
                request.host_error = sev_guest.INVALID_LENGTH
                raise fails(errno.ENOSPC)
            ctypes.memmove(asked.certificates, table, len(table))
            data = bytes(asked.data.user_data)
        elif number == sev_guest.GET_REPORT:
            data = bytes(sev_guest.ReportRequest.from_address(request.request).user_data)
        else:
            raise fails(errno.ENOTTY)
        made = report(data)
        answer = bytes(4) + len(made).to_bytes(4, "little") + bytes(24) + made
        ctypes.memmove(request.response, answer, len(answer))
        return b""

    return ioctl


def tdx_guest_device(number: int, request: Any) -> bytes:
    """A TDREPORT that holds the data."""
    if number != tdx_guest.GET_REPORT:
        raise fails(errno.ENOTTY)
    made = bytes(128) + bytes(request.data) + bytes(1024 - 192)
    ctypes.memmove(request.report, made, len(made))
    return b""


def quoting_service(quote: Report) -> Callable[[int, bytes], bytes]:
    """The host's QGS: a quote of the TDREPORT in the message."""
    def ask(port: int, message: bytes) -> bytes:
        major, minor, kind, size, error, report, names = tdx_guest.HEAD.unpack_from(message)
        assert (port, major, minor, kind, size, error, report, names) == (4050, 1, 0, 0, len(message), 0, 1024, 0)
        made = quote(message[tdx_guest.HEAD.size:][128:192])
        return tdx_guest.HEAD.pack(1, 0, 1, tdx_guest.HEAD.size + len(made), 0, 0, len(made)) + made

    return ask


def tsi_device(token: Report, certificate: bytes, *, to_read: bool = False) -> Callable[[int, Any], bytes]:
    """tmm_tsi_ioctl() of both kernels."""
    def ioctl(number: int, request: Any) -> bytes:
        if number == tsi.GET_CERTIFICATE:
            request.size = len(certificate)
            ctypes.memmove(request.value, certificate, len(certificate))
            return b""
        if number != (tsi.GET_TOKEN_TO_READ if to_read else tsi.GET_TOKEN):
            raise fails(errno.ENOTTY)
        made = token(bytes(request.challenge))
        request.size = len(made)
        if not to_read:
            ctypes.memmove(request.token, made, len(made))
        return made

    return ioctl
