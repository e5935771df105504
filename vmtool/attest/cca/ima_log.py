"""Linux's log of the files that IMA measured (security/integrity/ima, binary_runtime_measurements), as virtCCA's kernel
extends a register with it."""

from __future__ import annotations

from vmtool.attest.cursor import Cursor, require
from vmtool.attest.tpm.event_log import BANKS

MOST_EVENTS, LONGEST_NAME = 100_000, 64
SHA1, FIRST_TEMPLATE = 20, b"ima"
# The log's own number of the register: virtCCA's are counted from 1, and its first kernels wrote a TPM's number.
REMS = {1: 0, 2: 1, 3: 2, 4: 3, 10: 0}


def replay_ima(data: bytes, bank: str) -> tuple[int, bytes]:
    """The register that the log names, counted from 0, and what its events lead to, from zeros.

    Raises:
        NotProven: it is no such log, is empty, or is not of one register.
    """
    cursor, hashed = Cursor(data, "the IMA log"), BANKS[bank][1]
    value, count = bytes(hashed(b"").digest_size), 0
    numbers: set[int] = set()
    while cursor.left():
        count += 1
        require(count <= MOST_EVENTS, f"the IMA log has more than {MOST_EVENTS} events")
        number, digest, size = cursor.number(4), cursor.take(SHA1), cursor.number(4)
        require(size <= LONGEST_NAME, "a template of the IMA log has no known name")
        require(cursor.take(size) != FIRST_TEMPLATE, "the IMA log is of the first template, which has no SHA-256")
        template = cursor.take(cursor.number(4))
        # Of a file that changed while it was measured there is no digest, and the kernel extends by ones.
        extended = hashed(template).digest() if any(digest) else b"\xff" * len(value)
        numbers.add(number)
        value = hashed(value + extended).digest()
    require(len(numbers) == 1 and numbers <= REMS.keys(), f"the IMA log is not of one register: {sorted(numbers)}")
    return REMS[numbers.pop()], value
