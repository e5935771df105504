"""The registers of a guest's TPM that its kernel, initrd and command line lead to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from vmtool.attest.measure.boot_events import extend, stub_events
from vmtool.attest.measure.guest import MeasuredGuest, NotComputed, content

BANK = "sha256"
STUB = 9


def registers(guest: MeasuredGuest) -> Mapping[str, Mapping[int, str]]:
    """Values by bank and register.

    Raises:
        NotComputed: something of it is not known.
    """
    if guest.kernel is None:
        raise NotComputed("the image's own boot loader measures what it starts")
    initrd = content(guest.initrd, "initrd") if guest.initrd else None
    return {BANK: {STUB: extend(stub_events(guest.known_cmdline(), initrd), hashlib.sha256).hex()}}
