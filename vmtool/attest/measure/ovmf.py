"""The table of GUIDs at the end of an OVMF image (edk2, OvmfPkg/ResetVector)."""

from __future__ import annotations

import uuid

from vmtool.attest.measure.guest import NotComputed

FOOTER = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
# From the end of the image to the footer: the reset vector is below 4 GiB.
BELOW = 32
GUID, LENGTH = 16, 2


def table_entry(firmware: bytes, name: str) -> bytes:
    """The data of an entry.

    Raises:
        NotComputed: the image has no such table, or no such entry.
    """
    end = len(firmware) - BELOW
    if end < GUID + LENGTH or firmware[end - GUID:end] != FOOTER:
        raise NotComputed("the firmware has no table of GUIDs: it is no OVMF for a TEE")
    size = int.from_bytes(firmware[end - GUID - LENGTH:end - GUID], "little")
    rest = firmware[max(0, end - size):end - GUID - LENGTH]
    wanted = uuid.UUID(name).bytes_le
    while len(rest) >= GUID + LENGTH:
        length = int.from_bytes(rest[-GUID - LENGTH:-GUID], "little")
        if not GUID + LENGTH <= length <= len(rest):
            raise NotComputed("the firmware's table of GUIDs is damaged")
        if rest[-GUID:] == wanted:
            return rest[-length:-GUID - LENGTH]
        rest = rest[:-length]
    raise NotComputed(f"the firmware has no entry {name}")
