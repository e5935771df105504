"""What is claimed about a bundle: that it is whole and consistent; and each claim that it holds, made again."""

from __future__ import annotations

import calendar
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace

from vmtool.attest.appraisal import Appraisal, Check, NotRequested, appraise, describe
from vmtool.attest.cursor import require
from vmtool.bundle.chain import launch_root_of, root_of, verify_chain_of
from vmtool.bundle.contents import APART, CLAIMS, REFERENCE, SPEC, check_order
from vmtool.bundle.journal_claims import verify_journal, verify_plan
from vmtool.bundle.opened import OpenedBundle
from vmtool.claims import Claim, unmet
from vmtool.frozen import dataclass
from vmtool.proof.evidence import evidence_text
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import digest as digest_of
from vmtool.stage.launch import earlier_digest

LABEL, LAUNCH = "bundle", "launch"


@dataclass(frozen=True)
class Origin:
    """What says whose bundle it is.

    Args:
        digest: root that somebody trusted gave; None when nobody did.
        bound: evidence that was verified and is over the launch's part of the chain; empty for none.
    """

    digest: str | None = None
    bound: str = ""


def appraise_bundle(opened: OpenedBundle, origin: Origin) -> Appraisal:
    """That a bundle is whole, and that its parts agree."""
    title = f"bundle of {_name(opened)}"
    return replace(appraise(LABEL, title, _Checks(opened, origin).all()), conclusion=f"a whole and consistent {title}")


def _name(opened: OpenedBundle) -> str:
    try:
        return opened.head.instance
    except Exception:
        return "an unknown instance"


@dataclass(frozen=True)
class _Checks:
    opened: OpenedBundle
    origin: Origin

    def all(self) -> Iterator[Check]:
        yield "members", lambda: check_order(self.opened.members)
        yield "chain", lambda: verify_chain_of(self.opened.members)
        yield "instance", self.instance
        yield "spec", self.spec
        yield "plan", lambda: verify_plan(self.opened)
        yield "journal", lambda: verify_journal(self.opened)
        yield "files", self.files
        yield "claims", self.claims
        yield "origin", self.from_whom

    def instance(self) -> str:
        head, record = self.opened.head, self.opened.record
        require(record.name == head.instance, f"the record is of {record.name[:63]!r}, the bundle of {head.instance}")
        return f"{head.instance} ({head.state}), handler {record.handler}, as of {head.at}, by vmtool {head.vmtool}"

    def spec(self) -> str:
        spec = Spec.model_validate_json(self.opened.members[SPEC])
        require(spec.name == self.opened.record.name, f"{SPEC} is of {spec.name}")
        require(self.opened.record.digest in (digest_of(spec), earlier_digest(spec)),
                f"{SPEC} is not the one that was launched")
        return f"sha256:{self.opened.record.digest}"

    def files(self) -> str:
        """The digests that were kept with the claims."""
        found = {path.removeprefix(f"{self.opened.head.directory}/"): content
                 for path, content in self.opened.head.files(self.opened.members).items()}
        kept = self.opened.document["files"]
        for name, value in kept.items():
            require(name in found, f"member {name}, which the claims rest on, is missing")
            require(hashlib.sha256(found[name]).hexdigest() == value, f"member {name} is not what the claims rest on")
        more = [name for name in found if name not in kept and name not in APART and not name.startswith(REFERENCE)]
        require(not more, f"member {', '.join(more)[:200]} is nothing that the claims rest on")
        return f"{len(kept)} files are what the claims rest on"

    def claims(self) -> str:
        """The document is the one that vmtool writes of these claims, and each follows from what was observed."""
        opened = self.opened
        at = calendar.timegm(time.strptime(opened.document["at"], "%Y-%m-%dT%H:%M:%SZ"))
        text = evidence_text(opened.record, opened.recorded, opened.document["files"], at)
        require(text.encode() == opened.members[CLAIMS], f"{CLAIMS} is not as vmtool writes it of these claims")
        require(opened.document["at"] == opened.head.at, f"{CLAIMS} is of another time than the bundle")
        recorded, derived = ([claim.id for claim in claims] for claims in (opened.recorded, opened.derived))
        require(recorded == derived, f"the claims are {', '.join(recorded)}; from what was observed follow "
                                     f"{', '.join(derived)}")
        return f"{len(recorded)} claims, each made again from what was observed"

    def from_whom(self) -> str:
        root = root_of(self.opened.members)
        if self.origin.digest is not None:
            require(root == self.origin.digest, f"the root is {root}, not {self.origin.digest}")
            return f"root {root}, as was given"
        if self.origin.bound:
            return f"{self.origin.bound} is over {launch_root_of(self.opened.members)}: what was launched"
        raise NotRequested("nobody signed it: whoever has root on a host can write a consistent bundle of what never "
                           f"ran there; compare with a root that you have from elsewhere: --digest {root}")


def appraise_launch(opened: OpenedBundle) -> Appraisal:
    """The claims about the launch. One that does not follow from what was observed has failed, whatever was recorded;
    that a launch without a TEE is not confidential was asked for."""
    title, checked = f"launch of {opened.record.name}", tuple(_checked(opened, kept) for kept in opened.recorded)
    wrong = unmet(opened.recorded, confidential=opened.record.confidential)
    as_recorded = {claim.id: claim.verdict for kept, claim in zip(opened.recorded, checked, strict=True)
                   if claim == _named(kept) and kept.id not in wrong}
    optional, accepted = ({name for name, verdict in as_recorded.items() if verdict == wanted}
                          for wanted in ("not-checked", "failed"))
    return Appraisal(LAUNCH, title, checked, frozenset(optional), frozenset(accepted),
                     f"the claims of the {title} follow from what its host observed")


def _named(kept: Claim) -> Claim:
    return replace(kept, id=f"{LAUNCH}.{kept.id}")


def _checked(opened: OpenedBundle, kept: Claim) -> Claim:
    name = f"{LAUNCH}.{kept.id}"
    try:
        [derived] = [claim for claim in opened.derived if claim.id == kept.id]
    except BaseException as error:
        return Claim(name, "failed", f"recorded {kept.verdict} ({kept.evidence}), but: {describe(error)}")
    if derived != kept:
        return Claim(name, "failed", f"recorded {kept.verdict} ({kept.evidence}), but from what was observed follows "
                                     f"{derived.verdict} ({derived.evidence})")
    return _named(kept)
