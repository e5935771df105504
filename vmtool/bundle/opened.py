"""A bundle's members as what they say: whose bundle it is, what was recorded, and what follows from what was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from vmtool.attest.cursor import require
from vmtool.bundle.contents import CLAIMS, HEAD, OBSERVED, RECORD, SCHEMA, Head
from vmtool.bundle.observed import ReplayingReader
from vmtool.claims import VERDICTS, Claim
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.machine import Reader
from vmtool.paths import NAME
from vmtool.records import record_of

# Makes the claims about an instance from what a machine answers.
Derive = Callable[[Reader, Instance], Sequence[Claim]]


@dataclass(frozen=True)
class OpenedBundle:
    """The members, read when they are asked for; whatever is odd in one raises."""

    members: Mapping[str, bytes]
    derive: Derive

    @cached_property
    def head(self) -> Head:
        head = record_of(Head, self.members[HEAD])
        require(head.schema == SCHEMA, f"{HEAD}: the schema is {head.schema[:60]!r}, not {SCHEMA}")
        require(NAME.fullmatch(head.instance) is not None, f"{HEAD}: {head.instance[:60]!r} cannot name an instance")
        directory = PurePosixPath(head.directory)
        require(directory.is_absolute() and len(directory.parts) > 3 and directory.name == head.instance,
                f"{HEAD}: {head.directory[:100]!r} is no directory of {head.instance}")
        return head

    @cached_property
    def record(self) -> InstanceRecord:
        return record_of(InstanceRecord, self.members[RECORD])

    @cached_property
    def document(self) -> Mapping[str, Any]:
        """The claims as they were kept."""
        found = parse_json(self.members[CLAIMS])
        require(isinstance(found, dict) and isinstance(found.get("claims"), list)
                and isinstance(found.get("files"), dict) and isinstance(found.get("at"), str),
                f"{CLAIMS} is no document of claims")
        return dict(found)

    @cached_property
    def recorded(self) -> tuple[Claim, ...]:
        claims = tuple(Claim(**each) for each in self.document["claims"])
        require(all(isinstance(word, str) for claim in claims for word in vars(claim).values()), "a claim is no text")
        require(all(claim.verdict in VERDICTS for claim in claims), "a claim has an unknown verdict")
        return claims

    @cached_property
    def derived(self) -> tuple[Claim, ...]:
        """The claims, made again from what was observed, by the same code as on the host."""
        files = self.head.files(self.members)
        reader = ReplayingReader(self.members[OBSERVED], files)
        instance = Instance(self.head.instance, Paths(Path(self.head.directory)), self.record, self.head.state,
                            self.head.pid)
        return tuple(self.derive(reader, instance))
