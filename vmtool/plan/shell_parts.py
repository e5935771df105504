"""Parts of shell lines: what several actions must say in the same exact words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path


def literal(text: str) -> str:
    """A text as an extended regular expression that matches nothing else (POSIX, 9.4.3)."""
    return re.sub(r"[][\\.^$*+?(){}|]", r"\\\g<0>", text)


def lives(pidfile: Path) -> str:
    """A test whether the very process in a pid file lives, as `Host.living` knows it; afterwards `$pid` is its pid.

    Its line of /proc/PID/stat must have the file's second word, the start time, as its field 22 and no zombie's state.
    What stands before is the program's name, which may have brackets and blanks, and letters in place of numbers.
    """
    return (f"read -r pid since 2>/dev/null < {shlex.quote(str(pidfile))} && "
            r'grep -qsE "\) [^ZX] ([-0-9]+ ){18}$since " /proc/$pid/stat')
