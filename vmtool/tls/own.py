"""vmtool's own CA as a command uses it: under the host's lock, since two could be made at once."""

from __future__ import annotations

import datetime

from vmtool.cli.apply_plan import working_host
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.tls.authority import Authority, read_authority


def own_authority(state: State, doing: str) -> Authority:
    """The CA; made when there is none yet.

    Args:
        doing: the command that asks, for whoever has to wait.

    Raises:
        VmtoolError: its files are damaged, or not to be read.
    """
    with working_host(state, Plan("the CA", state.ca, ()), doing) as host:
        return read_authority(host, state.ca, datetime.datetime.now(datetime.UTC))
