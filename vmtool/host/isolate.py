"""vmtool's own start: apart from the caller's environment, and with no directory that a stranger may write to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vmtool.errors import NotReady, shell_word
from vmtool.isolation import is_isolated, own_environment, python


def isolate() -> None:
    """Keep of the environment what vmtool needs. A Python that was started without -I (scripts/setup writes it into the
    first line of the program; pip does not), or with variables for the dynamic loader, is started once more."""
    kept = own_environment(os.environ, os.geteuid())
    if not is_isolated(os.environ):
        os.execve(sys.executable, python("-m", "vmtool", *sys.argv[1:]), kept)
    os.environ.clear()
    os.environ.update(kept)


def check_owner(path: Path) -> None:
    """Look whether root may trust what is in a directory of vmtool's: from there it runs programs and undo actions.

    Raises:
        NotReady: root is asked to use a directory that somebody else owns or may write to.
    """
    try:
        status = os.stat(path)
    except OSError:
        return
    if os.geteuid() == 0 and (status.st_uid or status.st_mode & 0o022):
        who = f"belongs to user {status.st_uid}" if status.st_uid else "is writable for others"
        raise NotReady(f"{path} {who}, so root does not run what is kept there",
                       hint=f"chown root: {shell_word(path)} && chmod go-w {shell_word(path)}, "
                            "once you know what is in it; or name another")
