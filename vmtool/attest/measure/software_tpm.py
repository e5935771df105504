"""The registers of a guest's TPM that its kernel, initrd and command line lead to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from vmtool.attest.measure.boot_events import extend, extend_digests, start_digests, stub_events
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.qemu_kernel import kernel_forms

BANK = "sha256"
# What they are over: the kernel; command line and initrd.
KERNEL, STUB = 4, 9


def registers(guest: MeasuredGuest) -> Iterator[tuple[int, Callable[[], Any]]]:
    """Each register, and what computes its values: of a list one must be shown."""
    yield KERNEL, lambda: _kernel(guest)
    yield STUB, lambda: extend(stub_events(guest.known_cmdline(), guest.known_initrd()), hashlib.sha256).hex()


def _kernel(guest: MeasuredGuest) -> list[str]:
    found = [extend_digests(start_digests(form, hashlib.sha256), hashlib.sha256).hex() for form in kernel_forms(guest)]
    return list(dict.fromkeys(found))
