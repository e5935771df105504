"""The initial measurement of a realm of Arm's (RMM specification 1.0, A7.1 and B4), in the form that Huawei's TMM gives
it for virtCCA: a chain of SHA-256 over the realm's parameters, the pages that its memory begins with, and its vCPUs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from vmtool.frozen import dataclass

PAGE = 4096
# Kinds and size of a descriptor; a digest's place in it is wide enough for SHA-512.
DATA, VCPU = 0, 1
DESCRIPTOR, WIDE = 256, 64
WITH_SVE, WITH_PMU = 1 << 1, 1 << 2
ADDRESS_BITS = 40
RUNNABLE, MEASURED, GENERAL_REGISTERS = 1, 1, 8


@dataclass(frozen=True)
class Blob:
    """Memory that a realm begins with: `data`, and zeros up to `size`, which are whole pages."""

    address: int
    data: bytes
    size: int


def initial_measurement(sve_bits: int, counters: int, blobs: Iterable[Blob], vcpus: int, entry: int) -> bytes:
    """The measurement.

    Args:
        sve_bits: length of its SVE vectors; counters: of its PMU.
        blobs: in the order of their addresses.
        entry: where its first vCPU begins; the others are started by it.
    """
    measurement = _parameters(sve_bits, counters)
    for blob in blobs:
        for offset in range(0, blob.size, PAGE):
            page = blob.data[offset:offset + PAGE].ljust(PAGE, b"\0")
            place = _numbers(blob.address + offset, MEASURED)
            measurement = _extended(DATA, measurement, place + _wide(hashlib.sha256(page).digest()))
    for number in range(vcpus):
        start = (entry, RUNNABLE) if number == 0 else (0, 0)
        registers = _numbers(*(0 for _ in range(GENERAL_REGISTERS)), *start)
        measurement = _extended(VCPU, measurement, _wide(hashlib.sha256(registers).digest()))
    return measurement


def _parameters(sve_bits: int, counters: int) -> bytes:
    flags = (WITH_SVE if sve_bits else 0) | (WITH_PMU if counters else 0)
    # Then come breakpoints, watchpoints, counters, and the hash: 0 is SHA-256.
    block = _numbers(flags, ADDRESS_BITS, sve_bits // 128, 0, 0, counters, 0)
    return hashlib.sha256(block.ljust(PAGE, b"\0")).digest()


def _extended(kind: int, measurement: bytes, rest: bytes) -> bytes:
    descriptor = _numbers(kind, DESCRIPTOR) + _wide(measurement) + rest
    return hashlib.sha256(descriptor.ljust(DESCRIPTOR, b"\0")).digest()


def _wide(digest: bytes) -> bytes:
    return digest.ljust(WIDE, b"\0")


def _numbers(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)
