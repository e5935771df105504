"""What iptables says that matters to a container network: CNI's chains, published ports, the FORWARD policy."""

from __future__ import annotations

import functools
import itertools
import shlex
from collections.abc import Iterator

from vmtool.frozen import dataclass
from vmtool.machine import Reader

TABLES = ("nat", "filter", "raw")
Chain = tuple[str, str]


@dataclass(frozen=True)
class Published:
    """A port that a DNAT rule takes; `ip` is 0.0.0.0 when the rule names no address."""

    ip: str
    port: int
    protocol: str
    chain: str


@dataclass(frozen=True)
class Iptables:
    """The tables nat, filter and raw.

    Args:
        answers: False when there is no iptables or it may not be asked.
        chains: (table, chain) whose names begin with CNI-.
        rules: (table, rule) that concern CNI's chains or are vmtool's own, as `iptables -S` prints them.
        published: ports that somebody publishes.
        forward_policy: ACCEPT or DROP.
    """

    answers: bool = False
    chains: tuple[Chain, ...] = ()
    rules: tuple[tuple[str, str], ...] = ()
    published: tuple[Published, ...] = ()
    forward_policy: str = ""


def iptables_questions() -> tuple[tuple[str, ...], ...]:
    """The programs that list the tables, in the order of `TABLES`."""
    return tuple(("iptables", "-w", "-t", table, "-S") for table in TABLES)


def read_iptables(reader: Reader) -> Iptables:
    """Ask for each table; without counters, so that the answer is the same twice."""
    outputs = {table: reader.run(argv) for table, argv in zip(TABLES, iptables_questions(), strict=True)}
    lines = [(table, line) for table, output in outputs.items() if output and output.status == 0
             for line in output.out.splitlines()]
    policies = [line.split()[2] for table, line in lines if table == "filter" and line.startswith("-P FORWARD ")]
    return Iptables(
        answers=any(output and output.status == 0 for output in outputs.values()),
        chains=tuple((table, line[3:].strip()) for table, line in lines if line.startswith("-N CNI-")),
        rules=tuple((table, line) for table, line in lines
                    if line.startswith("-A ") and ("CNI-" in line or '"vmtool ' in line)),
        published=tuple(found for table, line in lines if table == "nat" for found in _published(line)),
        forward_policy=policies[0] if policies else "")


@functools.lru_cache(4096)
def rule_words(rule: str) -> tuple[str, ...]:
    """A rule's words; a rule that only iptables itself could take apart has none.

    Each is asked for several times, and a host with many containers has thousands.
    """
    try:
        return tuple(shlex.split(rule))
    except ValueError:
        return ()


def target_of(rule: str) -> str:
    """Where a rule jumps to."""
    words = rule_words(rule)
    return next((value for word, value in itertools.pairwise(words) if word in ("-j", "-g")), "")


def _published(rule: str) -> Iterator[Published]:
    words = rule_words(rule)
    if target_of(rule) != "DNAT":
        return
    values = dict(itertools.pairwise(words))
    if "!" in words and words.index("!") + 1 < len(words) and words[words.index("!") + 1] in ("-d", "--dport"):
        return
    ip = values.get("-d", "0.0.0.0/0").partition("/")[0]
    for port in values.get("--dport", values.get("--dports", "")).split(","):
        first, _, last = port.partition(":")
        if first.isdigit() and (not last or last.isdigit()):
            yield from (Published(ip, number, values.get("-p", "tcp"), words[1])
                        for number in range(int(first), min(int(last or first), 65535) + 1))
