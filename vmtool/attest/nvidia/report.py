"""The attestation report of a GPU or NVSwitch: an SPDM 1.1 GET_MEASUREMENTS request and its response (DMTF DSP0274)."""

from __future__ import annotations

from collections.abc import Mapping

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import Cursor, require
from vmtool.frozen import dataclass

VERSION, REQUEST, RESPONSE = 0x11, 0xe0, 0x60
# All blocks, with a signature.
WITH_SIGNATURE, ALL = 1, 0xff
SIGNATURE, NONCE, DIGEST = 96, 32, 48
DMTF = 1
# Fields of NVIDIA's opaque data.
DRIVER, VBIOS, FWID, PROTECTED_PCIE, MODE = 3, 6, 20, 21, 36


@dataclass(frozen=True)
class GpuReport:
    """What a device said.

    Args:
        measurements: SHA-384 values by their index, from 1.
        opaque: fields by their type.
        signed: everything before the signature, which is `r` and `s`.
    """

    nonce: bytes
    measurements: Mapping[int, bytes]
    opaque: Mapping[int, bytes]
    signed: bytes
    r: int
    s: int

    @property
    def driver(self) -> str:
        """Version of the driver; empty for a switch."""
        return self.opaque.get(DRIVER, b"").rstrip(b"\0").decode("ascii")

    @property
    def vbios(self) -> str:
        """Version of the firmware: as text, or as two little-endian numbers of which five bytes count."""
        value = self.opaque.get(VBIOS, b"")
        if len(value) != 8:
            return value.rstrip(b"\0").decode("ascii")
        parts = (*value[3::-1], value[4])
        return ".".join(f"{part:02X}" for part in parts)


def parse_gpu_report(data: bytes) -> GpuReport:
    """Read a report.

    Raises:
        NotProven: it is none, an index or a field occurs twice, or something is odd.
    """
    cursor = Cursor(data, "the report")
    require(cursor.take(4) == bytes((VERSION, REQUEST, WITH_SIGNATURE, ALL)), "no SPDM 1.1 request of all measurements")
    nonce, slot = cursor.take(NONCE), cursor.number(1)
    require(slot == 0, f"certificate slot {slot} is unknown")
    require(cursor.take(2) == bytes((VERSION, RESPONSE)), "no SPDM 1.1 response with measurements")
    cursor.take(2)
    count = cursor.number(1)
    measurements = _measurements(cursor.take(cursor.number(3)))
    require(len(measurements) == count, f"{len(measurements)} measurements instead of {count}")
    cursor.take(NONCE)
    opaque = _opaque(cursor.take(cursor.number(2)))
    signed = data[:cursor.at]
    r, s = (int.from_bytes(cursor.take(SIGNATURE // 2), "big") for _ in range(2))
    cursor.end()
    return GpuReport(nonce, measurements, opaque, signed, r, s)


def _measurements(record: bytes) -> dict[int, bytes]:
    cursor = Cursor(record, "the measurements")
    found: dict[int, bytes] = {}
    while cursor.left():
        index, specification, size = cursor.number(1), cursor.number(1), cursor.number(2)
        kind, length = cursor.number(1), cursor.number(2)
        require(specification == DMTF and size == length + 3 and length == DIGEST and not kind & 0x80,
                f"measurement {index} is no SHA-384")
        require(index not in found, f"measurement {index} occurs twice")
        found[index] = cursor.take(length)
    return found


def _opaque(data: bytes) -> dict[int, bytes]:
    cursor = Cursor(data, "the opaque data")
    found: dict[int, bytes] = {}
    while cursor.left():
        kind, size = cursor.number(2), cursor.number(2)
        require(kind not in found, f"field {kind} of the opaque data occurs twice")
        found[kind] = cursor.take(size)
    return found


def is_gpu(data: bytes) -> bool:
    """Whether it is a GPU's report, and no switch's; one that is odd is nobody's."""
    try:
        return bool(parse_gpu_report(data).driver)
    except (NotProven, ValueError):
        return False
