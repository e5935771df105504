"""/dev/tsi: tokens of virtCCA, and the certificate of the device that signs them (openEuler's kernel, cvm_tsi.h).

Its kernels have had two forms of the request. The number of an ioctl holds the structure's size, so that a kernel of
the other form answers ENOTTY: one puts the token into the structure, the other lets it be read afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import json

from vmtool.serving.evidence.binding import report_data
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, NotCollected, io_number

DEVICE = "/dev/tsi"
TOKEN, CERTIFICATE = 2 * 4096, 4096


class TokenRequest(ctypes.Structure):
    """struct cvm_attestation_cmd with the token inside."""

    _fields_ = (("challenge", ctypes.c_uint8 * 64), ("token", ctypes.c_uint8 * TOKEN), ("size", ctypes.c_uint64))


class ReadRequest(ctypes.Structure):
    """The same without it."""

    _fields_ = (("challenge", ctypes.c_uint8 * 64), ("size", ctypes.c_uint64))


class DeviceCertificate(ctypes.Structure):
    """struct cca_device_cert."""

    _fields_ = (("size", ctypes.c_uint64), ("value", ctypes.c_uint8 * CERTIFICATE))


GET_TOKEN = io_number("T", 1, ctypes.sizeof(TokenRequest))
GET_TOKEN_TO_READ = io_number("T", 1, ctypes.sizeof(ReadRequest))
GET_CERTIFICATE = io_number("T", 2, ctypes.sizeof(DeviceCertificate), write=False)


def collect(guest: Guest, bound: bytes) -> Collected:
    """Token and certificate, as openEuler's attestation agent writes them.

    Raises:
        NotCollected: a size is odd. OSError: the kernel refuses.
    """
    token = _token(guest, (ctypes.c_uint8 * 64)(*report_data(bound)))
    certificate = DeviceCertificate()
    guest.ioctl(DEVICE, GET_CERTIFICATE, certificate)
    device = _cut(bytes(certificate.value), certificate.size)
    return Collected("virtcca", json.dumps({"evidence": list(token), "dev_cert": list(device)}).encode())


def _token(guest: Guest, challenge: ctypes.Array[ctypes.c_uint8]) -> bytes:
    request = TokenRequest(challenge)
    try:
        guest.ioctl(DEVICE, GET_TOKEN, request)
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        small = ReadRequest(challenge)
        data = guest.ioctl(DEVICE, GET_TOKEN_TO_READ, small, TOKEN)
        return _cut(data, small.size)
    return _cut(bytes(request.token), request.size)


def _cut(data: bytes, size: int) -> bytes:
    if not 0 < size <= len(data):
        raise NotCollected(f"{DEVICE}: a size of {size} bytes")
    return data[:size]
