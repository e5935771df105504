"""/dev/sev-guest: SEV-SNP's report by ioctl (linux/sev-guest.h), for kernels without configfs-tsm."""

from __future__ import annotations

import ctypes

from vmtool.serving.evidence.binding import report_data
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, NotCollected, address, io_number

DEVICE = "/dev/sev-guest"
REPORT, RESPONSE, HEADER = 1184, 4000, 32
# The kernel's SEV_FW_BLOB_MAX_SIZE.
CERTIFICATES = 16 << 10
# Errors of the host, SNP_GUEST_VMM_ERR_*.
INVALID_LENGTH = 1


class GuestRequest(ctypes.Structure):
    """struct snp_guest_request_ioctl."""

    _fields_ = (("version", ctypes.c_uint8), ("request", ctypes.c_uint64), ("response", ctypes.c_uint64),
                ("firmware_error", ctypes.c_uint32), ("host_error", ctypes.c_uint32))


class ReportRequest(ctypes.Structure):
    """struct snp_report_req."""

    _fields_ = (("user_data", ctypes.c_uint8 * 64), ("vmpl", ctypes.c_uint32), ("reserved", ctypes.c_uint8 * 28))


class ExtendedRequest(ctypes.Structure):
    """struct snp_ext_report_req."""

    _fields_ = (("data", ReportRequest), ("certificates", ctypes.c_uint64), ("size", ctypes.c_uint32))


GET_REPORT = io_number("S", 0, ctypes.sizeof(GuestRequest))
GET_EXTENDED_REPORT = io_number("S", 2, ctypes.sizeof(GuestRequest))


def collect(guest: Guest, bound: bytes) -> Collected:
    """The report, with the host's certificates where it has some that fit.

    Raises:
        NotCollected: firmware or host refuse. OSError: the kernel does.
    """
    certificates = (ctypes.c_uint8 * CERTIFICATES)()
    asked = ReportRequest((ctypes.c_uint8 * 64)(*report_data(bound)))
    extended = ExtendedRequest(asked, address(certificates), CERTIFICATES)
    try:
        report = _request(guest, GET_EXTENDED_REPORT, extended)
    except NotCollected as error:
        if error.args[1:] != (INVALID_LENGTH,):
            raise
        return Collected("snp", _request(guest, GET_REPORT, asked))
    table = bytes(certificates)
    return Collected("snp", report, table if any(table) else b"")


def _request(guest: Guest, number: int, asked: ctypes.Structure) -> bytes:
    response = (ctypes.c_uint8 * RESPONSE)()
    request = GuestRequest(1, address(asked), address(response))
    try:
        guest.ioctl(DEVICE, number, request)
    except OSError as error:
        if request.firmware_error or request.host_error:
            raise NotCollected(f"{DEVICE}: firmware error {request.firmware_error:#x}, host error "
                               f"{request.host_error:#x}", request.host_error) from error
        raise
    data = bytes(response)
    status, size = (int.from_bytes(data[at:at + 4], "little") for at in (0, 4))
    if status or size != REPORT:
        raise NotCollected(f"{DEVICE}: status {status:#x}, a report of {size} bytes")
    return data[HEADER:HEADER + REPORT]
