"""The registers of a guest's TPM that its kernel, initrd and command line lead to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from vmtool.attest.measure.boot_events import extend, extend_digests, start_digests, stub_events
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed, content
from vmtool.attest.measure.qemu_kernel import handed_kernels

BANK = "sha256"
# What they are over: the kernel; command line and initrd.
KERNEL, STUB = 4, 9


def registers(guest: MeasuredGuest) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Each register, and what computes its values: of a list one must be shown."""
    yield KERNEL, lambda: _kernel(guest)
    yield STUB, lambda: extend(stub_events(guest.known_cmdline(), _initrd(guest)), hashlib.sha256).hex()


def _kernel(guest: MeasuredGuest) -> list[str]:
    initrd, kernel = _initrd(guest), content(guest.kernel, "kernel")
    forms = handed_kernels(guest, kernel, None if initrd is None else len(initrd))
    found = [extend_digests(start_digests(form, hashlib.sha256), hashlib.sha256).hex() for form in forms]
    return list(dict.fromkeys(found))


def _initrd(guest: MeasuredGuest) -> bytes | None:
    if guest.kernel is None:
        raise NotComputed("the image's own boot loader measures what it starts")
    return content(guest.initrd, "initrd") if guest.initrd else None
