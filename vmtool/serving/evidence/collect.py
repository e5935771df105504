"""Which device is asked, and what is answered over it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping

from vmtool.serving.evidence import sev_guest, tdx_guest, tpm, tsi, tsm
from vmtool.serving.evidence.binding import NO_KEY, VERSION, WITH_DEVICES, bind
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, LocalGuest, NotCollected
from vmtool.serving.evidence.nvml import Devices, collect_devices

# A TEE's device is always preferred to a TPM, which says nothing of who can read the memory.
COLLECTORS: tuple[tuple[str, Callable[[Guest, bytes], Collected | None]], ...] = (
    (tsm.ROOT, tsm.collect), (sev_guest.DEVICE, sev_guest.collect), (tdx_guest.DEVICE, tdx_guest.collect),
    (tsi.DEVICE, tsi.collect), (tpm.DEVICE, tpm.collect))
NONE = "none"
UNCONFIDENTIAL = ("unconfidential: there is no device of a TEE in here, so whoever runs the host can read and change "
                  "all of it")
BOOT_ONLY = "unconfidential: a TPM shows what was booted; whoever runs the host can read the memory"


def collect(bound: bytes, guest: Guest | None = None) -> Collected | None:
    """Evidence over 32 bytes, by the first device that is there; None where there is none.

    A device that is there and does not answer is no reason to say that there is none.

    Raises:
        NotCollected: why it does not.
    """
    asked = guest or LocalGuest()
    for path, ask in COLLECTORS:
        if asked.exists(path):
            try:
                found = ask(asked, bound)
            except (OSError, ValueError, IndexError) as error:
                raise NotCollected(f"{path}: {getattr(error, 'strerror', None) or error}") from error
            if found:
                return found
    return None


def document(nonce: bytes, key: bytes, ask: Callable[[bytes], Collected | None] = collect,
             ask_devices: Callable[[bytes], Devices] = collect_devices) -> Mapping[str, object]:
    """What is answered to a nonce on a connection with that key.

    Raises:
        NotCollected: as `collect`.
    """
    bound = bind(nonce, key)
    found, devices = ask(bound), ask_devices(bound)
    kind = found.kind if found else NONE
    said = UNCONFIDENTIAL if kind == NONE else BOOT_ONLY if kind == "tpm" else ""
    made = {"version": VERSION, "nonce": nonce.hex(), "key": key.hex() if key != NO_KEY else None, "kind": kind,
            "evidence": _base64(found.evidence) if found else None,
            "certificates": _base64(found.certificates) if found and found.certificates else None,
            "note": "; ".join(filter(None, (said, *devices.notes)))}
    return made | {"version": WITH_DEVICES, "devices": list(devices.evidence)} if devices.evidence else made


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
