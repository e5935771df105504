"""iptables: tables, chains and rules, in the words of the real one."""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fakes.machine.call import Call, done, failed
from vmtool.machine import Output

if TYPE_CHECKING:
    from tests.fakes.machine.machine import FakeMachine

BUILT_IN = {"nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), "filter": ("INPUT", "FORWARD", "OUTPUT"),
            "raw": ("PREROUTING", "OUTPUT")}
# In which order `-S` shows a rule's own conditions, and the states of conntrack.
OWN = ("-s", "-d", "-i", "-o", "-p")
STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")
NO_CHAIN = "iptables: No chain/target/match by that name."
NO_RULE = "iptables: Bad rule (does a matching rule exist in that chain?)."
NO_TARGET = "iptables v1.8.9 (nf_tables): Chain '{}' does not exist"
BUSY = "iptables v1.8.9 (nf_tables):  CHAIN_DEL failed (Device or resource busy): chain {}"


@dataclass
class Tables:
    """Chains by table and name, each a list of rules as `-S` prints them; and the built-in chains' policies."""

    machine: FakeMachine
    chains: dict[str, dict[str, list[str]]]
    policies: dict[str, dict[str, str]]

    @classmethod
    def of(cls, machine: FakeMachine) -> Tables:
        """What was recorded."""
        made = cls(machine, {table: {chain: [] for chain in chains} for table, chains in BUILT_IN.items()},
                   {table: dict.fromkeys(chains, "ACCEPT") for table, chains in BUILT_IN.items()})
        for table in BUILT_IN:
            text = machine.data["outputs"].get(f"iptables -w -t {table} -S", {}).get("out", "")
            for line in text.splitlines():
                kind, chain, *rest = line.split(" ", 2)
                if kind == "-P":
                    made.policies[table][chain] = rest[0]
                made.chains[table].setdefault(chain, [])
                if kind == "-A":
                    made.chains[table][chain].append(normal(rule_of(line)))
        return made

    def seen(self) -> dict[str, object]:
        return {**{f"{table} {chain}": list(rules) for table, chains in self.chains.items()
                   for chain, rules in chains.items()}, "policies": self.policies}

    def lines(self, table: str) -> list[str]:
        """As `iptables -S` prints the table."""
        own = self.policies[table]
        chains = {chain: self.chains[table][chain] for chain in (*own, *sorted(set(self.chains[table]) - set(own)))}
        return [*(f"-P {chain} {policy}" for chain, policy in self.policies[table].items()),
                *(f"-N {chain}" for chain in chains if chain not in self.policies[table]),
                *(f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules)]

    def used(self, table: str, chain: str) -> bool:
        return any(re.search(rf"-j {re.escape(chain)}$", rule) for rules in self.chains[table].values()
                   for rule in rules)

    def make(self, table: str, chain: str) -> bool:
        """A chain; whether it is new."""
        if chain in self.chains[table]:
            return False
        self.chains[table][chain] = []
        self.machine.changed()
        return True

    def add(self, table: str, chain: str, *rule: str, first: bool = False) -> None:
        """A rule, unless it is there."""
        text = normal(rule)
        if text not in self.chains[table][chain]:
            self.chains[table][chain].insert(0 if first else len(self.chains[table][chain]), text)
            self.machine.changed()

    def drop(self, table: str, chain: str, *rule: str) -> bool:
        """Take a rule away; whether it was there."""
        text = normal(rule)
        if text not in self.chains[table].get(chain, []):
            return False
        self.chains[table][chain].remove(text)
        self.machine.changed()
        return True

    def remove(self, table: str, chain: str) -> None:
        """A chain with its rules and the jumps to it, if it is there."""
        for rules in self.chains[table].values():
            for rule in [rule for rule in rules if re.search(rf"-j {re.escape(chain)}$", rule)]:
                rules.remove(rule)
                self.machine.changed()
        if self.chains[table].pop(chain, None) is not None:
            self.machine.changed()


@functools.cache
def rule_of(line: str) -> tuple[str, ...]:
    """The words of a rule as `-S` prints it."""
    return tuple(shlex.split(line)[2:])


@functools.cache
def normal(words: tuple[str, ...]) -> str:
    """A rule's words as `-S` prints them: its own conditions first and in one order, states sorted, text quoted."""
    own: dict[str, str] = {}
    rest: list[str] = []
    left = list(words)
    while left:
        negated = ["!"] if left[0] == "!" and left[1] in OWN else []
        option = left[len(negated)]
        if option in OWN:
            value = left[len(negated) + 1]
            value += "/32" if option in ("-s", "-d") and "/" not in value else ""
            own[option] = " ".join((*negated, option, value))
            left = left[len(negated) + 2:]
        else:
            rest.append(_quoted(option, rest[-1] if rest else ""))
            left = left[1:]
    return " ".join([*(own[option] for option in OWN if option in own), *rest])


def _quoted(word: str, before: str) -> str:
    if before == "--ctstate":
        return ",".join(state for state in STATES if state in word.split(","))
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if re.search(r"[^\w./:,=-]", word) and word != "!" else word


def iptables(call: Call) -> Output:
    """`iptables -w -t TABLE COMMAND ...`."""
    assert call.words[:2] == ("-w", "-t"), call.words
    table, command, *words = call.words[2:]
    tables = call.machine.tables
    if command == "-S":
        return done("".join(f"{line}\n" for line in tables.lines(table)))
    chain, rule = words[0], tuple(words[1:])
    target = rule[-1] if rule else ""
    if target.startswith("CNI-") and target not in tables.chains[table]:
        return failed(NO_TARGET.format(target), 2)
    if chain not in tables.chains[table]:
        return failed(NO_RULE if command == "-D" else NO_CHAIN)
    if command in ("-A", "-I"):
        rules = tables.chains[table][chain]
        rules.insert(0 if command == "-I" else len(rules), normal(rule))
        call.machine.changed()
        return done()
    if command == "-D":
        return done() if tables.drop(table, chain, *rule) else failed(NO_RULE)
    return _whole(call, table, command, chain)


def _whole(call: Call, table: str, command: str, chain: str) -> Output:
    """-F and -X."""
    tables = call.machine.tables
    if command == "-F":
        if tables.chains[table][chain]:
            tables.chains[table][chain].clear()
            call.machine.changed()
        return done()
    assert command == "-X", command
    if tables.chains[table][chain] or tables.used(table, chain):
        return failed(BUSY.format(chain), 4)
    del tables.chains[table][chain]
    call.machine.changed()
    return done()
