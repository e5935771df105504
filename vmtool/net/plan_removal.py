"""Steps that are named by what was found of a network and its attachments, and whose undo removes it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.net import firewall_rules
from vmtool.net.actions import RemoveBridge, RemoveChain, RemoveGuard, RemoveSharedChains
from vmtool.net.network import RECORD
from vmtool.net.plan import conflist_path, marker
from vmtool.net.remains import AttachmentRemains, NetworkRemains
from vmtool.paths import State


def removal_of_network(state: State, found: NetworkRemains) -> Iterator[p.Step]:
    """The networks of its own, then what is attached: in the order in which they are made."""
    detach = p.Run(("ip", "netns", "delete", found.namespace), absent_messages=("No such file or directory",))
    for name, bridges, files in found.networks:
        seen = [*(f"bridge {bridge}" for bridge in bridges),
                *([f"{', '.join(files)} in {state.network(name)}"] if files else [])]
        yield p.Step(f"the network {name}: {', '.join(seen)}", undo=(
            *map(RemoveBridge, bridges), *_files(state, name, found.owner),
            RemoveSharedChains(marker(state), users=state.networks, own=name)))
    for attachment in found.attached:
        yield p.Step(f"an attachment to the network {attachment.network}: {', '.join(_seen(attachment))}",
                     undo=(detach, *_detached(attachment)))
    if found.netns:
        yield p.Step(f"the network namespace {found.namespace}", undo=(detach,))


def _files(state: State, name: str, owner: str) -> Iterator[p.Action]:
    """An instance's network lies whole in its directory; that of `net add` holds the journal as well."""
    directory = state.network(name)
    if owner:
        yield p.Remove(directory)
    else:
        yield from map(p.Remove, (conflist_path(state, name), directory / "leases", directory / "attached",
                                  directory / RECORD))


def _seen(found: AttachmentRemains) -> Iterator[str]:
    yield from (f"{table} chain {chain}" for table, chain in found.chains)
    yield from (f"lease {lease.name}" for lease in found.leases)
    if found.guards or found.rules:
        yield f"{len(found.guards) + len(found.rules)} iptables rules"
    yield from map(str, found.files)


def _detached(found: AttachmentRemains) -> Iterator[p.Action]:
    """What guards the network goes last."""
    yield from (RemoveChain(table, chain) for table, chain in found.chains)
    yield from (p.Run(argv, absent_messages=firewall_rules.GONE) for argv in found.rules)
    yield from map(RemoveGuard, found.guards)
    yield from map(p.Remove, (*found.leases, *found.files))
