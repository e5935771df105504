"""The iptables chains of CNI's plugins: those of a container, and those that all containers share."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.machine import Host, check
from vmtool.net.iptables import rule_words, target_of
from vmtool.net.network import RECORD

# What sends new connections to published ports on to the chain of a container: the first rule that fits.
DNAT = "CNI-HOSTPORT-DNAT"
# The shared chains of one plugin, and the one rule that it puts into each: its target. None: only others' rules.
PORTMAP = {DNAT: None, "CNI-HOSTPORT-SETMARK": "MARK", "CNI-HOSTPORT-MASQ": "MASQUERADE"}
FIREWALL = {"CNI-FORWARD": "CNI-ADMIN", "CNI-ADMIN": None}
GROUPS: tuple[tuple[str, dict[str, str | None]], ...] = (("nat", PORTMAP), ("filter", FIREWALL))
BUILT_IN = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")


def remove(host: Host, table: str, chain: str) -> None:
    """Remove a chain and the jumps to it; nothing when it is not there."""
    rules = _rules(host, table)
    for rule in rules:
        if rule.startswith("-A ") and target_of(rule) == chain:
            _iptables(host, table, ["-D", *rule_words(rule)[1:]])
    if f"-N {chain}" in rules:
        _iptables(host, table, ["-F", chain])
        _iptables(host, table, ["-X", chain])


def lead(host: Host, chain: str) -> None:
    """Put the jumps to a container's chain first.

    Raises:
        VmtoolError: there is none.
    """
    rules = [rule_words(rule) for rule in _rules(host, "nat")
             if rule.startswith(f"-A {DNAT} ") and target_of(rule) == chain]
    if not rules:
        raise VmtoolError(f"no rule of {DNAT} leads to {chain}", hint="iptables -w -t nat -S")
    for words in reversed(rules):
        _iptables(host, "nat", ["-I", *words[1:]])


def remove_shared(host: Host, marker: Path, users: Path, own: str) -> None:
    """Remove the shared chains that vmtool's first network brought, once no network of vmtool's is left.

    Each plugin's chains go together or stay together: one that holds somebody's rule needs the others.
    """
    others = [name for name in host.names(str(users)) if name != own and host.exists(str(users / name / RECORD))]
    if others:
        return
    there = host.exists(str(marker))
    made = [tuple(line.split()) for line in (host.text(str(marker)) or "").splitlines()]
    for table, group in GROUPS if there else ():
        rules = _rules(host, table)
        present = [chain for chain in group if f"-N {chain}" in rules]
        if all((table, chain) in made for chain in present) and not any(_foreign(rule, group) for rule in rules):
            _remove_group(host, table, present, rules)
    host.remove(marker)


def remove_group_shell(table: str, group: dict[str, str | None], marker: Path) -> str:
    """`_remove_group` as shell lines, where `remove_shared` does so.

    The first condition: each chain that is there is in `marker`. The second: `_foreign` says so of no rule, those of
    the plugins themselves left out.
    """
    iptables, names, made = f"iptables -w -t {table}", "|".join(group), shlex.quote(str(marker))
    own = "|".join([f"-A ({'|'.join(BUILT_IN)}) ", *(f"-A {chain} (.* )?-j {target}( |$)"
                                                     for chain, target in group.items() if target)])
    return f"""\
if [ -z "$({iptables} -S | sed -n 's/^-N /{table} /p' | grep -E ' ({names})$' | grep -vxFf {made})" ] &&
   [ -z "$({iptables} -S | grep -E '^-A ({names}) |-[jg] ({names})$' | grep -vE '^({own})')" ]; then
  {iptables} -S | sed -nE 's/^-A (.* -j ({names}))$/-D \\1/p' | while read -r rule; do eval "{iptables} $rule"; done
  chains=$({iptables} -S | sed -n 's/^-N //p' | grep -xE '{names}') || :
  for chain in $chains; do {iptables} -F $chain; done; for chain in $chains; do {iptables} -X $chain; done
fi"""


def _foreign(rule: str, group: dict[str, str | None]) -> bool:
    """Whether a rule says that somebody uses the group: a rule in it, or a jump to it from a chain of theirs."""
    words = rule_words(rule)
    if words[:1] != ("-A",):
        return False
    chain, target = words[1], target_of(rule)
    if chain in group:
        return target != group[chain]
    return target in group and chain not in BUILT_IN


def _remove_group(host: Host, table: str, chains: Sequence[str], rules: Sequence[str]) -> None:
    for rule in rules:
        if rule.startswith("-A ") and target_of(rule) in chains:
            _iptables(host, table, ["-D", *rule_words(rule)[1:]])
    for command in ("-F", "-X"):
        for chain in chains:
            _iptables(host, table, [command, chain])


def _rules(host: Host, table: str) -> list[str]:
    """The table as `iptables -S` prints it; a host without iptables has no chains."""
    if not host.which("iptables"):
        return []
    argv = ("iptables", "-w", "-t", table, "-S")
    output = host.execute(argv, deadline=30.0)
    check(argv, output)
    return output.out.splitlines()


def _iptables(host: Host, table: str, words: Sequence[str]) -> None:
    argv = ("iptables", "-w", "-t", table, *words)
    check(argv, host.execute(argv, deadline=30.0))
