"""The registers of a TDX guest that its kernel, initrd and command line lead to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from vmtool.attest.measure.boot_events import LEAVING, SEPARATOR, extend, extend_digests, start_digests, stub_events
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.qemu_kernel import kernel_forms


def rtmr1(guest: MeasuredGuest) -> list[str]:
    """The kernel's, of which one must be shown."""
    found = [extend_digests(log, hashlib.sha384).hex() for form in kernel_forms(guest) for log in start_logs(form)]
    return list(dict.fromkeys(found))


def start_logs(kernel: bytes) -> Iterator[tuple[bytes, ...]]:
    """The digests of the kernel's start. Firmware before edk2-stable202411 measures the separator into RTMR0 instead
    (edk2 efaf8931, OvmfPkg/TdTcg2Dxe)."""
    starting, separator = start_digests(kernel, hashlib.sha384), hashlib.sha384(SEPARATOR).digest()
    left = tuple(hashlib.sha384(event).digest() for event in LEAVING)
    yield *starting, *left
    yield *(digest for digest in starting if digest != separator), *left


def rtmr2(guest: MeasuredGuest) -> str:
    """That of command line and initrd."""
    return extend(stub_events(guest.known_cmdline(), guest.known_initrd()), hashlib.sha384).hex()
