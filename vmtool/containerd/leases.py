"""How vmtool knows the leases of its own `ctr` calls.

What `ctr` puts into containerd it holds by a lease, which it deletes at its end; a killed one leaves the lease, and by
it all content, ingests and snapshots, for 24 hours. `ctr` names it at random and takes no other name. But it writes
when the lease ends (the label containerd.io/gc.expire; leases/lease.go, WithExpiration) in its own time zone: so a zone
that is nobody's, other for each state directory, is the mark. All that uses it holds the host lock of that directory.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Pairs
from vmtool.paths import State

# Minutes: no place on earth is further west than 12 hours, and an offset has less than 24 (RFC 3339).
WESTERNMOST, DAY = 12 * 60, 24 * 60


@dataclass(frozen=True)
class LeaseMark:
    """A time zone as a mark.

    Args:
        zone: the file that has it while it is needed.
        west: minutes west of UTC.
    """

    zone: Path
    west: int

    @property
    def environment(self) -> Pairs:
        """What a `ctr` must be started with."""
        return (("TZ", str(self.zone)),)

    @property
    def filter(self) -> str:
        """The leases that have the mark, for `ctr leases list`."""
        return f'labels."containerd.io/gc.expire"~="-{self.west // 60:02}:{self.west % 60:02}$"'


def lease_mark(state: State, directory: Path) -> LeaseMark:
    """The mark of this state directory; its file is in the subject's own directory."""
    number = int.from_bytes(hashlib.sha256(os.fsencode(state.root)).digest()[:4])
    return LeaseMark(directory / "zone", WESTERNMOST + 1 + number % (DAY - WESTERNMOST - 1))
