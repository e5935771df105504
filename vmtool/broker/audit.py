"""The audit file: one line of JSON for each decision, appended and on the disk before the decision takes effect."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# A line with all reasons; a peer chooses some of their words.
MOST = 8 << 10


class Audit:
    """The file, opened for each line, so that it can be moved away while the broker runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def note(self, step: str, verdict: str, session: str = "", **values: Any) -> None:
        """Append a line; there is no secret in it. Of the session, which is one while it lives, it has a digest.

        Raises:
            OSError: it cannot be written.
        """
        who = {"session": hashlib.sha256(session.encode()).hexdigest()[:16]} if session else {}
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "step": step, "verdict": verdict, **who,
                **values}
        text = json.dumps(line)
        if len(text) > MOST:
            text = json.dumps({name: str(value)[:200] for name, value in line.items()})
        descriptor = self._opened()
        try:
            # A line that a full disk or a power loss cut ends here.
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"
            data = (b"\n" if torn else b"") + text.encode() + b"\n"
            if os.write(descriptor, data) != len(data):
                # A disk that became full took a part of the line without an error.
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _opened(self) -> int:
        """The file to append to; made, of mode 0600, when it is not there.

        Raises:
            OSError: it cannot be opened, or is something else than a file.
        """
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", str(self.path))
        return descriptor
