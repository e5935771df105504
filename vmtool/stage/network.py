"""The instance's network: one of its own, or one that it shares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmtool.errors import NotReady
from vmtool.findings import Finding, failing, from_error, wrong_input
from vmtool.instance.instance import subject_of, unit_of
from vmtool.machine import Reader
from vmtool.net.actions import RemoveBridge
from vmtool.net.check import check_request
from vmtool.net.launch_network import netns_name
from vmtool.net.plan import plan_attach, plan_network
from vmtool.net.plan_removal import removal_of_network
from vmtool.net.remains import read_network_remains
from vmtool.paths import State
from vmtool.plan import Step
from vmtool.stage.launch import Launch, Stage


class NetworkStage(Stage):
    """Makes the network and attaches the instance's namespace to it."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        findings = list(check_request(launch.network_facts, launch.network_request))
        yield from findings
        if not failing(findings):
            try:
                _ = launch.network
            except NotReady as error:
                yield from_error("net.subnet.none-free", error)
        if len({port.container_port for port in launch.body.network.ports}) > 1:
            yield wrong_input("launch.ports", "the container serves on one port, so publish that one only",
                              place="spec.network.publish")

    def steps(self, launch: Launch) -> Iterator[Step]:
        facts, network = launch.network_facts, launch.network
        if launch.replaces and network.owner:
            yield launch.inherit(Step(f"go on with the network {network.name}"), RemoveBridge(network.bridge))
        else:
            yield from plan_network(launch.state, facts, network)
        yield plan_attach(launch.state, facts, network, container_id=launch.unit, netns_name=launch.netns,
                          directory=launch.paths.network, publish=launch.body.published, owner=launch.owner,
                          unpublished=bool(launch.replaces))

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[Step]:
        unit = unit_of(name, slot)
        found = read_network_remains(reader, state, subject_of(name), unit, netns_name(unit))
        # The network of its own is that of both slots, and goes after all that is attached to it.
        yield from removal_of_network(state, replace(found, networks=()) if slot else found)
