"""What of a network and of its attachments is on the machine, whoever remembers it.

No plugin is asked: what those made can be seen (namespace, chains, rules, leases, bridge), also when the files that
they would be called with are gone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.net.cni_facts import read_leases
from vmtool.net.facts import BRIDGES, read_attachments, read_networks
from vmtool.net.iproute import read_objects
from vmtool.net.iptables import Chain, Iptables, read_iptables, rule_words
from vmtool.net.network import NETNS, RECORD, Attachment, Network, bridge_names, container_chains
from vmtool.paths import State

Words = tuple[str, ...]


@dataclass(frozen=True)
class AttachmentRemains:
    """What attaches a container to a network, but for its namespace.

    Args:
        guards, rules: what deletes each rule outside its own chains; guards keep others away from it.
        leases, files: paths.
    """

    network: str
    chains: tuple[Chain, ...]
    guards: tuple[Words, ...]
    rules: tuple[Words, ...]
    leases: tuple[Path, ...]
    files: tuple[Path, ...]


@dataclass(frozen=True)
class NetworkRemains:
    """What is there.

    Args:
        owner: of what is looked for, such as "instance chat"; empty for `vmtool net add`.
        networks: its own: name, bridges, files.
        netns: name of the namespace when it is there.
    """

    owner: str
    networks: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
    attached: tuple[AttachmentRemains, ...]
    namespace: str
    netns: bool


def read_network_remains(reader: Reader, state: State, owner: str, container_id: str, netns: str) -> NetworkRemains:
    """Look for the attachments of a container, and for the network that came with it under its name."""
    look = _Look(reader, state, owner, container_id)
    names = sorted(set(look.names()))
    own = tuple((name, tuple(look.bridges(name)), tuple(look.files(name))) for name in names if look.is_own(name))
    attached = (look.attachment(name) for name in names)
    return NetworkRemains(
        owner, tuple(each for each in own if each[1] or each[2]),
        tuple(each for each in attached if each.chains or each.guards or each.rules or each.leases or each.files),
        netns, netns in reader.names(str(NETNS)))


@dataclass(frozen=True)
class _Look:
    reader: Reader
    state: State
    owner: str
    container_id: str

    @cached_property
    def iptables(self) -> Iptables:
        return read_iptables(self.reader)

    @cached_property
    def known(self) -> dict[str, Network]:
        return {network.name: network for network in read_networks(self.reader, self.state)}

    def names(self) -> Iterator[str]:
        """The networks that it may be in: by its own name, on record, and as the rules' comments have it."""
        yield self.container_id
        yield from (network.name for network in self.known.values() if self.owner and network.owner == self.owner)
        yield from (item.network for item in self._on_record())
        own = re.escape(self.container_id)
        found = re.compile(rf'name: "([^"]+)" id: "{own}"|^vmtool (\S+)/{own}$')
        for _, rule in self.iptables.rules:
            if match := found.search(_comment(rule)):
                yield match[1] or match[2]

    def _on_record(self) -> Iterator[Attachment]:
        for name in self.reader.names(str(self.state.networks)):
            yield from (item for item in read_attachments(self.reader, self.state, name)
                        if item.container_id == self.container_id and item.owner == self.owner)

    def is_own(self, name: str) -> bool:
        """Whether it came with what is looked for. Of a network whose record is lost nobody else knows when it is
        called so; one of `net add` has a journal of its own."""
        if network := self.known.get(name):
            return network.owner == self.owner
        reader, directory = self.reader, f"{self.state.networks}/{name}"
        added = any(reader.exists(f"{directory}/{file}") for file in ("journal.jsonl", "plan.json"))
        return name == self.container_id and (added or not self.owner) is (not self.owner)

    def bridges(self, name: str) -> Iterator[str]:
        """Its bridges that are there: that of the record, or what a network of this name would have."""
        conflist = self.reader.text(f"{self.state.networks}/{name}/{name}.conflist") or ""
        known = self.known.get(name)
        others = {network.bridge for network in self.known.values() if network.name != name}
        names = [known.bridge] if known else [*re.findall(r'"bridge": *"([^"]+)"', conflist), *bridge_names(name)]
        existing = {str(item.get("ifname")) for item in read_objects(self.reader, *BRIDGES)}
        yield from (bridge for bridge in dict.fromkeys(names) if bridge in existing - others)

    def files(self, name: str) -> Iterator[str]:
        """What describes it."""
        reader, directory = self.reader, f"{self.state.networks}/{name}"
        yield from (file for file in (RECORD, f"{name}.conflist", "leases", "attached")
                    if reader.exists(f"{directory}/{file}"))

    def attachment(self, name: str) -> AttachmentRemains:
        """What attaches the container to a network."""
        reader, directory = self.reader, f"{self.state.networks}/{name}"
        leases = [lease for lease in read_leases(reader, f"{directory}/leases")
                  if lease.container_id == self.container_id]
        registered = f"{directory}/attached/{self.container_id}.json"
        found = list(self._rules(name, {lease.ip for lease in leases}))
        return AttachmentRemains(
            name, tuple(each for each in container_chains(name, self.container_id) if each in self.iptables.chains),
            tuple(words for words, guards in found if guards), tuple(words for words, guards in found if not guards),
            tuple(Path(lease.path) for lease in leases),
            (Path(registered),) if reader.exists(registered) else ())

    def _rules(self, name: str, ips: set[str]) -> Iterator[tuple[Words, bool]]:
        rules = [(table, rule_words(rule)) for table, rule in self.iptables.rules]
        own = f'name: "{name}" id: "{self.container_id}"'
        ips = ips | {_value(words, "-s").partition("/")[0] for _, words in rules if own in _value(words, "--comment")}
        for table, words in rules:
            guards = _value(words, "--comment") == f"vmtool {name}/{self.container_id}"
            forwards = words[1:2] == ("CNI-FORWARD",) and any(f"{ip}/32" in words for ip in ips if ip)
            if guards or forwards:
                yield ("iptables", "-w", "-t", table, "-D", *words[1:]), guards


def _comment(rule: str) -> str:
    return _value(rule_words(rule), "--comment")


def _value(words: tuple[str, ...], option: str) -> str:
    return next((value for word, value in itertools.pairwise(words) if word == option), "")
