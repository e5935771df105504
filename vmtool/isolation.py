"""A place of their own for programs that mount or that start others."""

from __future__ import annotations

# An ordinary user has further ids (subuid(5)) for the users that packages have.
OWN_IDS = ("unshare", "--map-root-user", "--map-auto")
# What would end with vmtool forgets that when it gets other ids (prctl(2), PR_SET_PDEATHSIG), so it is set again.
_AS_ROOT = (*OWN_IDS, "setpriv", "--pdeathsig", "KILL")


def private(*, root: bool) -> tuple[str, ...]:
    """The words before a program that has /proc, mounts and processes of its own: whatever ends it, nothing is left.

    Args:
        root: vmtool runs as root.
    """
    return (*(() if root else _AS_ROOT), "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
