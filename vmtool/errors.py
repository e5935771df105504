"""The errors a person can act on: what and where, the evidence, the next command, the exit code.

Explained
├── VmtoolError            exit 1: something that was tried has failed
│   ├── Refused            exit 2: the input is wrong; nothing was tried
│   ├── NotReady           exit 3: the host cannot do it; nothing was changed
│   ├── VerificationFailed exit 4: it ran, and what it showed is not what was asked for
│   ├── ProgramMissing     exit 3: a program that is needed is not installed
│   ├── ProgramFailed      exit 1: a program ended badly
│   └── Damaged            exit 1: what vmtool wrote down is not as it was written
└── Interrupted            exit 130: Ctrl-C or a termination signal; as KeyboardInterrupt it is no Exception

Only `vmtool/cli/` turns them into text and exit codes. Anything else that escapes is an internal error.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Sequence

# The file system, or the user's share of it, is full.
FULL = (errno.ENOSPC, errno.EDQUOT)


class Explained(BaseException):
    """Base of everything that ends a command with words for a person.

    Args:
        message: what failed and where, one sentence.
        details: further lines, such as the last output of a child or a list of problems.
        hint: the next command or change, complete enough to be typed.
        log: path of the full log, when one was kept.
    """

    code = 1

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str = "", log: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(details)
        self.hint = hint
        self.log = log


class VmtoolError(Explained, Exception):
    """Base of every error."""


class Refused(VmtoolError):
    """The input is wrong."""

    code = 2


class NotReady(VmtoolError):
    """The host lacks something."""

    code = 3


class VerificationFailed(VmtoolError):
    """A look at the result contradicts the request."""

    code = 4


class ProgramMissing(NotReady):
    """A needed program is not on this machine."""


class ProgramFailed(VmtoolError):
    """A program exited with an error, died of a signal or passed its deadline.

    Args:
        how: that, without the program's words, such as "exit status 1".
    """

    def __init__(self, message: str, *, how: str = "", details: Sequence[str] = (), hint: str = "",
                 log: str = "") -> None:
        super().__init__(message, details=details, hint=hint, log=log)
        self.how = how


class Damaged(VmtoolError):
    """A file of vmtool's own is not as it was written: a journal, a record, a plan."""


class Interrupted(Explained):
    """The user or the system asked vmtool to stop. Whoever goes on after an error must not take it for one."""

    code = 130


def shell_word(value: object) -> str:
    """A path or name as it is typed in a shell: what a hint shows is a line that works.

    What cannot be typed, such as a byte that is no text, is an escape within $'...', which bash and zsh know.
    """
    word = os.fsdecode(value) if isinstance(value, bytes | os.PathLike) else str(value)
    if word.isprintable():
        return shlex.quote(word)
    typed = (each if each.isprintable() and each not in "'\\" else "".join(
        f"\\x{byte:02x}" for byte in os.fsencode(each)) for each in word)
    return f"$'{''.join(typed)}'"


def system_error(error: OSError, place: str) -> VmtoolError:
    """What the system reports, for a person.

    Args:
        place: named when the error names no file.
    """
    where = os.path.dirname(os.fsdecode(error.filename or place)) or "/"
    hint = f"findmnt --target {shell_word(where)}" if error.errno == errno.EROFS else ""
    if error.errno in FULL and (not error.filename or os.path.isabs(os.fsdecode(error.filename))):
        hint = f"make room there: df -h {shell_word(where)}"
    return VmtoolError(f"{error.filename or place}: {(error.strerror or str(error)).lower()}", hint=hint)
