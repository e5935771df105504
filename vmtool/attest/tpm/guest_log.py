"""The log of what was measured into the four registers of a guest in TDX or virtCCA (UEFI 2.10, 38.4: CCEL)."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.attest.cursor import require
from vmtool.attest.tpm.event_log import BANKS, NO_ACTION, parse_log

REGISTERS = 4
# The firmware itself, which the hardware measures: no register of these has it.
LAUNCHED = 0


def verify_guest_log(data: bytes, bank: str, shown: Sequence[bytes], name: str) -> str:
    """The log leads to the registers that are shown. The last one is for the guest's own programs, which need not log.

    Args:
        shown: the registers, of which the evidence has proof; name: theirs, such as RTMR.

    Raises:
        NotProven: it is none, or leads elsewhere.
    """
    algorithm, hashed = BANKS[bank]
    registers = [bytes(hashed(b"").digest_size)] * REGISTERS
    own = False
    for event in parse_log(data, registers=REGISTERS + 1, filled=True):
        if event.kind == NO_ACTION or event.register == LAUNCHED:
            continue
        require(algorithm in event.digests, f"an event has no digest of {bank}")
        number = event.register - 1
        registers[number] = hashed(registers[number] + event.digests[algorithm]).digest()
        own = own or number == REGISTERS - 1
    compared = range(REGISTERS if own else REGISTERS - 1)
    differ = [f"{name}{number}" for number in compared if registers[number] != shown[number]]
    require(not differ, f"the event log does not lead to {', '.join(differ)}")
    return f"leads to {name}0 to {name}{compared[-1]}"
