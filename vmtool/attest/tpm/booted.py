"""What of a boot is another than was computed, as the event log has it. For people: the registers decide."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

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
        return "the kernel is another" if started == 1 else f"{started} programs were started, and one kernel expected"
    if register == STUB and bank == BANK and launch.cmdline:
        return ", and ".join(_of_stub(found, launch)) or "more was measured than command line and initrd"
    return ""


def _of_stub(found: list[Event], launch: LaunchReference) -> Iterator[str]:
    shown = {int.from_bytes(event.data[:4], "little"): event.digests.get(BANKS[BANK][0]) for event in found
             if event.kind == TAGGED}
    options = load_options(launch.cmdline, initrd=launch.initrd is not None)
    if LOAD_OPTIONS not in shown:
        yield "the kernel measured no command line, as those before Linux 5.17"
    elif shown[LOAD_OPTIONS] != hashlib.sha256(options).digest():
        yield f"the command line is not {launch.cmdline!r}"
    if shown.get(INITRD) != launch.initrd:
        yield "the initrd is another"
