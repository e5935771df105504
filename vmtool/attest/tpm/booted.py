"""What of a boot is another than was computed, as the event log has it. For people: the registers decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from vmtool.attest.measure.boot_events import load_options
from vmtool.attest.measure.software_tpm import BANK, KERNEL, STUB
from vmtool.attest.reference import LaunchReference
from vmtool.attest.tpm.event_log import BANKS, Event

# EV_EFI_BOOT_SERVICES_APPLICATION; EV_EVENT_TAG, with the tags of Linux's EFI stub (drivers/firmware/efi/libstub).
APPLICATION, TAGGED = 0x80000003, 6
LOAD_OPTIONS, INITRD = 0x8f3b22ed, 0x8f3b22ec


def what_differs(events: tuple[Event, ...], launch: LaunchReference, bank: str, register: int) -> str:
    """In words; empty where the log and what the reference says of its launch do not show it."""
    found = [event for event in events if event.register == register]
    if register == KERNEL:
        started = sum(event.kind == APPLICATION for event in found)
        if started != 1:
            return f"{started} programs were started, and one kernel expected"
        # QEMU may have written the initrd's size into the kernel's header.
        more = ", or the initrd's size in its header," if _tagged(events).get(INITRD) != launch.initrd else ""
        return f"the kernel{more} is another"
    if register == STUB and bank == BANK and launch.cmdline:
        return ", and ".join(_of_stub(found, launch)) or "more was measured than command line and initrd"
    return ""


def _tagged(events: Sequence[Event]) -> dict[int, bytes | None]:
    """Digests of what the stub measured, by its tag."""
    return {int.from_bytes(event.data[:4], "little"): event.digests.get(BANKS[BANK][0]) for event in events
            if event.register == STUB and event.kind == TAGGED}


def _of_stub(found: Sequence[Event], launch: LaunchReference) -> Iterator[str]:
    shown = _tagged(found)
    options = load_options(launch.cmdline, initrd=launch.initrd is not None)
    if LOAD_OPTIONS not in shown:
        yield "the kernel measured no command line, as those before Linux 5.17"
    elif shown[LOAD_OPTIONS] != hashlib.sha256(options).digest():
        yield f"the command line is not {launch.cmdline!r}"
    if shown.get(INITRD) != launch.initrd:
        yield "the initrd is another"
