"""The digests of a bundle's members, each chained to the one before it; the last one stands for the whole bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from itertools import zip_longest

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import require
from vmtool.bundle.contents import CHAIN, SCHEMA, in_order, launched
from vmtool.frozen import dataclass


@dataclass(frozen=True)
class Link:
    """One member's line, and the chain's value with it."""

    name: str
    line: str
    value: str


def links(members: Mapping[str, bytes]) -> Iterator[Link]:
    """The chain of members in their order: each value is the SHA-256 of the one before and of the member's line."""
    value = hashlib.sha256(SCHEMA.encode()).hexdigest()
    for number, (name, content) in enumerate(members.items(), 1):
        body = {"number": number, "name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        value = hashlib.sha256(value.encode() + json.dumps(body).encode()).hexdigest()
        yield Link(name, json.dumps({**body, "chain": value}) + "\n", value)


def sealed(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The members in their order, and the chain of them."""
    ordered = {name: members[name] for name in in_order(members)}
    return {**ordered, CHAIN: "".join(link.line for link in links(ordered)).encode()}


def root_of(members: Mapping[str, bytes]) -> str:
    """The value that stands for the whole bundle."""
    return _last(members, [name for name in members if name != CHAIN])


def launch_root_of(members: Mapping[str, bytes]) -> str:
    """The value that stands for what was launched: evidence over it binds all of that."""
    return _last(members, launched(members))


def _last(members: Mapping[str, bytes], names: list[str]) -> str:
    return list(links({name: members[name] for name in names}))[-1].value


def verify_chain_of(members: Mapping[str, bytes]) -> str:
    """The digests are those of the members.

    Raises:
        NotProven: one is not; the reason names the member.
    """
    found = members[CHAIN].splitlines(keepends=True)
    made = list(links({name: content for name, content in members.items() if name != CHAIN}))
    for link, line in zip_longest(made, found):
        if link is None:
            raise NotProven(f"{CHAIN} has more lines than there are members")
        require(line == link.line.encode(), f"member {link.name} is not the one that {CHAIN} has in its place")
    return f"{len(made)} members, root {made[-1].value}"
