"""Linux's log of the files that IMA measured (security/integrity/ima, binary_runtime_measurements), as virtCCA's kernel
extends a register with it: in a guest that a firmware started the last one, else the first."""

from __future__ import annotations

from vmtool.attest.cursor import Cursor, require
from vmtool.attest.tpm.event_log import BANKS

MOST_EVENTS, LONGEST_NAME = 100_000, 64
SHA1, FIRST_TEMPLATE = 20, b"ima"
# By the log's own number of the register: virtCCA's are counted from 1.
FIRST, LAST = 1, 4


def replay_ima(data: bytes, bank: str, register: int) -> bytes:
    """What the events of a register lead to, from zeros.

    Raises:
        NotProven: it is no such log, or a file changed while it was measured.
    """
    cursor, hashed = Cursor(data, "the IMA log"), BANKS[bank][1]
    value, count = bytes(hashed(b"").digest_size), 0
    while cursor.left():
        count += 1
        require(count <= MOST_EVENTS, f"the IMA log has more than {MOST_EVENTS} events")
        number, digest, size = cursor.number(4), cursor.take(SHA1), cursor.number(4)
        require(size <= LONGEST_NAME, "a template of the IMA log has no known name")
        require(cursor.take(size) != FIRST_TEMPLATE, "the IMA log is of the first template, which has no SHA-256")
        template = cursor.take(cursor.number(4))
        require(any(digest), "the IMA log has a file that changed while it was measured")
        if number == register:
            value = hashed(value + hashed(template).digest()).digest()
    return value
