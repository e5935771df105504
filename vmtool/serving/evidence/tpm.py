"""/dev/tpmrm0: a quote of a TPM 2.0 (TCG, "TPM 2.0 Library", part 3), with the registers and the firmware's event log.

Its attestation key is always the same (`tpm_commands`), so that its name can be enrolled once. A TPM proves what
was booted; it keeps no memory from the host.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.guest import Guest, NotCollected
from vmtool.serving.evidence.tpm_commands import command, key_command, quote_command, selection, sized

DEVICE = "/dev/tpmrm0"
LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"
MOST_LOG = 128 << 10
# Those that only a reset clears; register 16 and above can be reset by software.
REGISTERS = range(16)
READ_REGISTERS, FLUSH = 0x17e, 0x165
# TPM_RC_YIELDED, TPM_RC_TESTING and TPM_RC_RETRY: the command was not begun, and is to be sent again.
AGAIN, TRIES, PAUSE = (0x908, 0x90a, 0x922), 20, 0.05
Ask = Callable[[bytes], bytes]


def collect(guest: Guest, bound: bytes) -> Collected:
    """A quote over the data.

    Raises:
        NotCollected: the TPM refuses. OSError: the kernel does.
    """
    with guest.session(DEVICE) as ask:
        created = answered(ask, key_command())
        handle, public = created[:4], first(created[8:])
        try:
            answer = answered(ask, quote_command(handle, bound, REGISTERS))[4:]
            registers = {number: value for start in (0, 8)
                         for number, value in _registers(ask, range(start, start + 8)).items()}
        finally:
            answered(ask, command(FLUSH, b"", handle))
    quote, signature = first(answer), answer[2 + len(first(answer)):]
    parts = {"quote": quote, "signature": signature[:_signature_size(signature)], "ak_public": sized(public)}
    if log := _log(guest):
        parts["event_log"] = log
    return Collected("tpm", json.dumps({
        **{name: base64.b64encode(part).decode() for name, part in parts.items()},
        "pcrs": {"sha256": {str(number): value.hex() for number, value in registers.items()}}}).encode())


def answered(ask: Ask, asked: bytes) -> bytes:
    """The answer's handles and parameters."""
    for _ in range(TRIES):
        answer = ask(asked)
        if len(answer) < 10 or int.from_bytes(answer[2:6], "big") != len(answer):
            raise NotCollected(f"{DEVICE}: an answer of an odd length")
        status = int.from_bytes(answer[6:10], "big")
        if status not in AGAIN:
            break
        time.sleep(PAUSE)
    if status:
        raise NotCollected(f"{DEVICE}: command 0x{asked[6:10].hex().lstrip('0')} fails with {status:#x}")
    return answer[10:]


def _registers(ask: Ask, numbers: range) -> dict[int, bytes]:
    answer = answered(ask, command(READ_REGISTERS, b"", selection(numbers)))
    # updateCounter, the selection as granted, then a list of digests.
    digests = answer[4 + len(selection(numbers)):]
    values = [first(digests[at:]) for at in range(4, 4 + int.from_bytes(digests[:4], "big") * 34, 34)]
    if len(values) != len(numbers):
        raise NotCollected(f"{DEVICE}: it has no SHA-256 registers {numbers.start} to {numbers.stop - 1}")
    return dict(zip(numbers, values, strict=True))


def _signature_size(data: bytes) -> int:
    """Of a TPMT_SIGNATURE by ECDSA; the answer's session follows it."""
    size = len(first(data[4:]))
    return 4 + 2 + size + 2 + len(first(data[6 + size:]))


def first(data: bytes) -> bytes:
    """The content of the TPM2B that it begins with."""
    size = int.from_bytes(data[:2], "big")
    if len(data) < 2 + size:
        raise NotCollected(f"{DEVICE}: an answer ends too early")
    return data[2:2 + size]


def _log(guest: Guest) -> bytes:
    """The firmware's log, where there is one that may be read; without it the registers stand for themselves."""
    try:
        log = guest.read(LOG)
    except OSError:
        return b""
    return log if len(log) <= MOST_LOG else b""
