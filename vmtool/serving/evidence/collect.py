"""Which device is asked, and what is answered over it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from vmtool.serving.evidence import agent, sev_guest, tdx_guest, tpm, tsi, tsm
from vmtool.serving.evidence.binding import NO_KEY, VERSION, WITH_DEVICES, bind
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, LocalGuest, NotCollected
from vmtool.serving.evidence.nvml import Devices, collect_devices

Collector = Callable[[Guest, bytes], Collected | None]
# A TEE's device, or the agent that has it, is always preferred to a TPM, which says nothing of who can read the memory.
TEES: tuple[tuple[str, Collector], ...] = (
    (tsm.ROOT, tsm.collect), (sev_guest.DEVICE, sev_guest.collect), (tdx_guest.DEVICE, tdx_guest.collect),
    (tsi.DEVICE, tsi.collect))
TPMS: tuple[tuple[str, Collector], ...] = ((tpm.DEVICE, tpm.collect),)
NONE = "none"
UNCONFIDENTIAL = ("unconfidential: there is no device of a TEE in here, so whoever runs the host can read and change "
                  "all of it")
BOOT_ONLY = "unconfidential: a TPM shows what was booted; whoever runs the host can read the memory"


def collect(bound: bytes, guest: Guest | None = None) -> Collected | None:
    """Evidence over 32 bytes, by the first that is there: a TEE's device, the guest's attestation agent, a TPM. None
    where there is none of them.

    One that is there and does not answer is no reason to say that there is none.

    Raises:
        NotCollected: why it does not.
    """
    asked, failed, note = guest or LocalGuest(), None, ""
    try:
        if found := _by_device(TEES, asked, bound):
            return found
    except NotCollected as error:
        failed = error
    if answering := asked.agent():
        if found := agent.collect(answering, bound):
            return found
        note = agent.passed_over(answering)
    if failed:
        raise failed
    found = _by_device(TPMS, asked, bound)
    return replace(found, note=note) if found else Collected(NONE, b"", note=note) if note else None


def _by_device(collectors: Iterable[tuple[str, Collector]], guest: Guest, bound: bytes) -> Collected | None:
    """By the first that gives any: a process may have the right to one interface of its TEE, and not to another.

    Raises:
        NotCollected: why the first that is there gives none, when no other does.
    """
    failed: list[NotCollected] = []
    for path, ask in collectors:
        if guest.exists(path):
            try:
                if found := ask(guest, bound):
                    return found
            except NotCollected as error:
                failed.append(error)
            except (OSError, ValueError, IndexError) as error:
                failed.append(NotCollected(f"{path}: {getattr(error, 'strerror', None) or error}"))
    if failed:
        raise failed[0]
    return None


def document(nonce: bytes, key: bytes, ask: Callable[[bytes], Collected | None] = collect,
             ask_devices: Callable[[bytes], Devices] = collect_devices) -> Mapping[str, object]:
    """What is answered to a nonce on a connection with that key.

    Raises:
        NotCollected: as `collect`.
    """
    bound = bind(nonce, key)
    found, devices = ask(bound), ask_devices(bound)
    kind, note = (found.kind, found.note) if found else (NONE, "")
    said = UNCONFIDENTIAL if kind == NONE else BOOT_ONLY if kind == "tpm" else ""
    made = {"version": VERSION, "nonce": nonce.hex(), "key": key.hex() if key != NO_KEY else None, "kind": kind,
            "evidence": _base64(found.evidence) if found and kind != NONE else None,
            "certificates": _base64(found.certificates) if found and found.certificates else None,
            "note": "; ".join(filter(None, (said, note, *devices.notes)))}
    return made | {"version": WITH_DEVICES, "devices": list(devices.evidence)} if devices.evidence else made


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
