"""What is in a bundle, in which order: first what was launched, then what was seen of it, and the chain at last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field

from vmtool.attest.bundle_form import FIRST
from vmtool.attest.cursor import require
from vmtool.bundle.archive import names_in_order
from vmtool.frozen import dataclass

SCHEMA = "vmtool/bundle/v1"
HEAD, CHAIN, OBSERVED = FIRST, "digests.jsonl", "observed.json"
RECORD, SPEC, PLAN, FACTS, JOURNAL = "instance.json", "spec.json", "plan.json", "facts.json", "journal.jsonl"
EVIDENCE, CLAIMS = "evidence", "evidence/proof.json"
RENDERED, REFERENCE = "rendered", "reference"
# What the digests that are kept with the claims are not of.
APART = (HEAD, JOURNAL, CLAIMS, OBSERVED, CHAIN)
NEEDED = (HEAD, RECORD, SPEC, PLAN, JOURNAL, CLAIMS, OBSERVED, CHAIN)
LAUNCHED, SEEN, LAST = 1, 2, 3
RANK = {HEAD: 0, EVIDENCE: SEEN, OBSERVED: SEEN, CHAIN: LAST}


@dataclass(frozen=True)
class Head:
    """The first member: whose bundle it is.

    Args:
        at: seconds since the epoch, of the look that the claims are of.
        directory: of the launch, on the host that wrote it; state and pid as they were then.
        outside: by the member's name the path of what lies outside of that directory.
    """

    schema: str
    vmtool: str
    instance: str
    at: str
    directory: str
    state: str
    pid: int | None
    outside: Mapping[str, str] = field(default_factory=dict)

    def files(self, members: Mapping[str, bytes]) -> dict[str, bytes]:
        """The members by the paths that they were read from."""
        made = (HEAD, OBSERVED, CHAIN)
        return {self.outside.get(name, f"{self.directory}/{name}"): content for name, content in members.items()
                if name not in made}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of members as a bundle has them."""
    return names_in_order(names, RANK, LAUNCHED)


def check_order(members: Mapping[str, bytes]) -> str:
    """All that a bundle needs is there, and in its order.

    Raises:
        NotProven: it is not.
    """
    missing = [name for name in NEEDED if name not in members]
    require(not missing, f"members are missing: {', '.join(missing)}")
    odd = next((name for name, right in zip(members, in_order(members), strict=True) if name != right), "")
    require(not odd, f"member {odd} is not in its place")
    return f"{len(members)} members"


def launched(members: Iterable[str]) -> list[str]:
    """The members that were there before anything was seen of the launch; whoever looks later finds the same."""
    return [name for name in members if RANK.get(name, RANK.get(name.partition("/")[0], LAUNCHED)) == LAUNCHED]
