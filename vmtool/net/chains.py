"""The iptables chains of CNI's plugins: those of a container, and those that all containers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from vmtool.host import processes
from vmtool.net.iptables import rule_words, target_of
from vmtool.net.network import RECORD
from vmtool.plan import SweepChains

# The shared chains of one plugin, and the one rule that it puts into each: its target. None: only others' rules.
PORTMAP = {"CNI-HOSTPORT-DNAT": None, "CNI-HOSTPORT-SETMARK": "MARK", "CNI-HOSTPORT-MASQ": "MASQUERADE"}
FIREWALL = {"CNI-FORWARD": "CNI-ADMIN", "CNI-ADMIN": None}
GROUPS: tuple[tuple[str, dict[str, str | None]], ...] = (("nat", PORTMAP), ("filter", FIREWALL))
BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def remove(table: str, chain: str, log: IO[str]) -> None:
    """Remove a chain and the jumps to it; nothing when it is not there."""
    rules = _rules(table)
    for rule in rules:
        if rule.startswith("-A ") and target_of(rule) == chain:
            _iptables(table, ["-D", *rule_words(rule)[1:]], log)
    if f"-N {chain}" in rules:
        _iptables(table, ["-F", chain], log)
        _iptables(table, ["-X", chain], log)


def sweep(action: SweepChains, log: IO[str]) -> None:
    """Remove the shared chains that vmtool's first network brought, once no network of vmtool's is left.

    Each plugin's chains go together or stay together: one that holds somebody's rule needs the others.
    """
    others = [path for path in action.users.glob(f"*/{RECORD}") if path.parent.name != action.own]
    if others or not action.marker.exists():
        return
    made = [tuple(line.split()) for line in action.marker.read_text().splitlines()]
    for table, group in GROUPS:
        rules = _rules(table)
        present = [chain for chain in group if f"-N {chain}" in rules]
        if all((table, chain) in made for chain in present) and not any(_foreign(rule, group) for rule in rules):
            _remove_group(table, present, rules, log)
    action.marker.unlink(missing_ok=True)


def _foreign(rule: str, group: dict[str, str | None]) -> bool:
    """Whether a rule says that somebody uses the group: a rule in it, or a jump to it from a chain of theirs."""
    words = rule_words(rule)
    if words[:1] != ["-A"]:
        return False
    chain, target = words[1], target_of(rule)
    if chain in group:
        return target != group[chain]
    return target in group and chain not in BUILT_IN


def _remove_group(table: str, chains: Sequence[str], rules: Sequence[str], log: IO[str]) -> None:
    for rule in rules:
        if rule.startswith("-A ") and target_of(rule) in chains:
            _iptables(table, ["-D", *rule_words(rule)[1:]], log)
    for command in ("-F", "-X"):
        for chain in chains:
            _iptables(table, [command, chain], log)


def _rules(table: str) -> list[str]:
    """The table as `iptables -S` prints it; a host without iptables has no chains."""
    if not processes.which("iptables"):
        return []
    argv = ("iptables", "-w", "-t", table, "-S")
    output = processes.run(argv, deadline=30.0)
    processes.check(argv, output)
    return output.out.splitlines()


def _iptables(table: str, words: Sequence[str], log: IO[str]) -> None:
    argv = ("iptables", "-w", "-t", table, *words)
    processes.check(argv, processes.run(argv, deadline=30.0, log=log))
