"""Why there is no evidence of a server, or none that counts."""

from __future__ import annotations

from vmtool.errors import VerificationFailed, VmtoolError


class NotVerified(VerificationFailed):
    """The server is not the one that is wanted, or shows nothing that can be verified; nothing more is sent to it."""


class NotNow(NotVerified):
    """There is no evidence at the moment: no reason to begin, and none to break off what was verified a while ago."""


class Unreachable(VmtoolError):
    """There is no connection: that says nothing against the server."""
