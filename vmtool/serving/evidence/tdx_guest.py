"""/dev/tdx_guest, for kernels without configfs-tsm: the TD's report by ioctl, which the host's quoting service (QGS)
signs as a quote; asked over vsock, as Intel's libtdx_attest does."""

from __future__ import annotations

import ctypes
import re
import struct

from vmtool.serving.evidence.binding import report_data
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, NotCollected, io_number

DEVICE = "/dev/tdx_guest"
SETTINGS, PORT = "/etc/tdx-attest.conf", 4050
REPORT = 1024
# qgs_msg_header_t, and the two sizes after it, of request and answer.
HEAD = struct.Struct("<HHIIIII")
GET_QUOTE, QUOTE = 0, 1


class ReportRequest(ctypes.Structure):
    """struct tdx_report_req."""

    _fields_ = (("data", ctypes.c_uint8 * 64), ("report", ctypes.c_uint8 * REPORT))


GET_REPORT = io_number("T", 1, ctypes.sizeof(ReportRequest))


def collect(guest: Guest, bound: bytes) -> Collected:
    """A quote.

    Raises:
        NotCollected: the quoting service makes none. OSError: the kernel refuses, or nobody answers on vsock.
    """
    request = ReportRequest((ctypes.c_uint8 * 64)(*report_data(bound)))
    guest.ioctl(DEVICE, GET_REPORT, request)
    message = HEAD.pack(1, 0, GET_QUOTE, HEAD.size + REPORT, 0, REPORT, 0) + bytes(request.report)
    answer = guest.ask_host(_port(guest), message)
    if len(answer) < HEAD.size:
        raise NotCollected("the quoting service's answer is too short")
    major, _, kind, size, error, name, quote = HEAD.unpack_from(answer)
    if (major, kind, size, error) != (1, QUOTE, len(answer), 0) or HEAD.size + name + quote != size:
        raise NotCollected(f"the quoting service makes no quote: error {error:#x}")
    return Collected("tdx", answer[HEAD.size + name:])


def _port(guest: Guest) -> int:
    """Where the service listens: as the guest's own settings say."""
    if not guest.exists(SETTINGS):
        return PORT
    found = re.search(rb"^\s*port\s*=\s*(\d{1,9})\s*$", guest.read(SETTINGS), re.MULTILINE)
    return int(found[1]) if found else PORT
