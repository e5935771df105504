"""The facts as they will be once something of vmtool's own is undone, for plans that clear it first."""

from __future__ import annotations

import dataclasses

from vmtool.net.facts import NetworkFacts
from vmtool.net.network import container_chains


def facts_without(facts: NetworkFacts, owner: str) -> NetworkFacts:
    """The facts without the networks and attachments of an owner such as "instance quickstart"."""
    networks = [network for network in facts.ours if network.owner == owner]
    names = {network.name for network in networks}
    attached = [item for item in facts.attached if item.owner == owner]
    ours = tuple(network for network in facts.ours if network.name not in names)
    chains = {chain for item in attached for chain in container_chains(item.network, item.container_id)}
    ids = {(item.network, item.container_id) for item in attached}
    # With the last network go the shared chains that came with the first one.
    swept = set() if ours else set(facts.chains_made)
    bridges = {network.bridge for network in networks}
    return dataclasses.replace(
        facts, ours=ours, attached=tuple(item for item in facts.attached if item not in attached),
        our_leases=tuple(lease for lease in facts.our_leases
                         if lease.network not in names and (lease.network, lease.container_id) not in ids),
        netns=tuple(name for name in facts.netns if name not in {item.netns for item in attached}),
        chains=tuple(chain for chain in facts.chains if chain not in chains | swept),
        published=tuple(item for item in facts.published if ("nat", item.chain) not in chains),
        links=tuple((name, port) for name, port in facts.links if name not in bridges and port not in bridges),
        bridges=tuple(name for name in facts.bridges if name not in bridges),
        addresses=tuple(item for item in facts.addresses if item.dev not in bridges),
        routes=tuple(route for route in facts.routes if route.dev not in bridges))


def unpublished(facts: NetworkFacts, container_id: str) -> NetworkFacts:
    """The facts without the published ports of a container, which another one takes over."""
    chains = {chain for item in facts.attached if item.container_id == container_id
              for chain in container_chains(item.network, item.container_id)}
    return dataclasses.replace(facts, published=tuple(
        item for item in facts.published if ("nat", item.chain) not in chains))
