"""Which kernel messages say that a GPU is lost or hangs."""

from __future__ import annotations

import re
from collections.abc import Collection

ADDRESS = re.compile(r"\b(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2})(?:\.([0-7]))?\b", re.IGNORECASE)
# Xid errors after which nothing that the GPU computes can be relied on (NVIDIA, "XID Errors"): memory errors that were
# not contained, a GPU that fell off the bus, firmware that does not answer.
FATAL_XIDS = {48, 62, 64, 74, 79, 92, 94, 95, 109, 119, 120, 136, 140, 143, 154}
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d{1,3})\b")
WORDS = (
    re.compile(r"fallen off the bus|GPU (is )?lost", re.IGNORECASE),
    # drivers/pci/pci.c and quirks.c: a reset that the device does not survive.
    re.compile(r"not ready \d+ms after .*giving up|timed out waiting for pending transaction"),
    # drivers/pci/pcie/aer.c
    re.compile(r"severity=Uncorrect(ed|able) \(Fatal\)|can't recover|device recovery failed", re.IGNORECASE),
    re.compile(r"Unable to change power state from \S+ to D0, device inaccessible"),
    # drivers/gpu/drm/amd
    re.compile(r"GPU reset begin!|ring \S+ timeout|GPU recovery failed", re.IGNORECASE),
)


def troubled(message: str, devices: Collection[str]) -> str:
    """The address of the device, out of these, that a message says is lost; empty when it says so of none."""
    if xid := XID.search(message):
        return _among(xid[1], devices) if int(xid[2]) in FATAL_XIDS else ""
    if not any(words.search(message) for words in WORDS):
        return ""
    return next((found for each in ADDRESS.finditer(message) if (found := _among(each[0], devices))), "")


def _among(text: str, devices: Collection[str]) -> str:
    """The device that an address names: NVIDIA's driver leaves out the function, others the domain."""
    found = ADDRESS.search(text)
    if not found:
        return ""
    domain, place, function = found.groups()
    wanted = f"{int(domain or '0', 16):04x}:{place.lower()}."
    return next((device for device in sorted(devices)
                 if device.startswith(wanted) and (function is None or device.endswith(f".{function}"))), "")
