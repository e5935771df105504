"""Whether an upgrade can be done without a gap."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.doctor.host import HostFacts
from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.instance.instance import Instance
from vmtool.spec.runtime import Body
from vmtool.stage.launch import Launch


def check_address(old: Body, new: Body, name: str) -> Iterator[Finding]:
    """What clients would notice, however it is done."""
    if not old.network.ports:
        yield wrong_input("upgrade.unpublished", f"{name} publishes no port: its address is its container's, and goes "
                          "with it", place="spec.network.publish")
    elif old.network != new.network:
        yield wrong_input("upgrade.network", "its clients know the network as it is, which stays the same",
                          place="spec.network")
    if old.tls.on != new.tls.on:
        yield wrong_input("upgrade.tls", f"its clients speak {'TLS' if old.tls.on else 'plain HTTP'}", place="spec.tls")
    for body in (old, new):
        if body.runtime.handler == "libvirt":
            yield wrong_input("upgrade.handler", "a guest of libvirt is not launched beside another one",
                              place="spec.runtime.handler")
            return


def check_room(old: Instance, launch: Launch, host: HostFacts) -> Iterator[Finding]:
    """Whether both fit, and the old one can take leave of its clients."""
    if not old.known().manage:
        yield host_lacks("upgrade.front", f"{old.name} is of an earlier vmtool, whose front takes no leave of clients")
    has, needs, total = old.known().memory, launch.body.resources.memory, host.memory.total
    if total is not None and has + needs > total:
        yield host_lacks("upgrade.memory", f"{needs >> 20} MiB beside the {has >> 20} MiB of the one that runs, but "
                         f"this host has {total >> 20} MiB", place="spec.resources.memory")
