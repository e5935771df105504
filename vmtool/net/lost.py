"""A network of `vmtool net add` that is on the machine, and of which no journal tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vmtool.errors import VmtoolError
from vmtool.host.local import LocalMachine
from vmtool.net.plan_removal import removal_of_network
from vmtool.net.remains import read_network_remains
from vmtool.paths import State


def require_gone(state: State, name: str, why: str, problems: Sequence[str] = (), *, bridge: str = "") -> None:
    """Look whether anything of a network of `net add` is on the machine that no journal tells of.

    Args:
        bridge: the one that it had; without a record, those that it would have are looked for.

    Raises:
        VmtoolError: something is.
    """
    reader = LocalMachine()
    remains = read_network_remains(reader, state, "", name, name)
    if bridge:
        own = ((each, tuple(found for found in bridges if found == bridge), files)
               for each, bridges, files in remains.networks)
        remains = replace(remains, networks=tuple(each for each in own if each[1] or each[2]))
    if not (remains.networks or remains.attached or reader.exists(str(state.network(name)))):
        return  # a network namespace that happens to be called so is anybody's
    if found := list(removal_of_network(state, remains)):
        raise VmtoolError(f"{why}, and something of it is still there",
                          details=[*problems, *(f"on this machine: {step.title}" for step in found)],
                          hint=f"vmtool recover --adopt networks/{name}")
