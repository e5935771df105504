"""Running checks of evidence: each gives one claim, and whatever it raises is a refusal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from dataclasses import replace

from vmtool.claims import Claim
from vmtool.errors import Interrupted, VmtoolError
from vmtool.frozen import dataclass

# The name of a claim, and what proves it: it returns what was seen, and raises when it is not so.
Check = tuple[str, Callable[[], str]]


class NotProven(Exception):
    """Why a check fails."""


class Outdated(NotProven):
    """What is needed for a check is of another time: nothing is proven by it, and nothing contradicts."""


class NotChecked(Exception):
    """Why a check that is required could not be made: something is missing."""


class NotRequested(Exception):
    """Why a check was not made, and need not be: there is nothing to compare with."""


@dataclass(frozen=True)
class Appraisal:
    """The claims about one piece of evidence.

    Args:
        label: what their ids begin with; `title` is for a person.
        optional: ids of claims that may be not-checked, as nothing was given to compare with.
        accepted: ids of claims that may have failed: that it is not so was asked for.
        conclusion: what may be said when all that is required is proven; empty for "genuine ... evidence".
    """

    label: str
    title: str
    claims: tuple[Claim, ...]
    optional: frozenset[str] = frozenset()
    accepted: frozenset[str] = frozenset()
    conclusion: str = ""

    @property
    def unproven(self) -> tuple[str, ...]:
        """Ids of what is required and not proven."""
        return tuple(claim.id for claim in self.claims if claim.verdict != "proven" and claim.id not in (
            self.accepted if claim.verdict == "failed" else self.optional))

    @property
    def verified(self) -> bool:
        """Whether everything that is required is proven."""
        return bool(self.claims) and not self.unproven

    @property
    def concluded(self) -> str:
        """What may be said when it is verified."""
        return self.conclusion or f"genuine {self.title} evidence"


def appraise(label: str, title: str, checks: Iterable[Check]) -> Appraisal:
    """Run every check, also after one that failed."""
    appraisal = Appraisal(label, title, ())
    for name, check in checks:
        claim, required = _run(f"{label}.{name}", check)
        optional = appraisal.optional if required else appraisal.optional | {claim.id}
        appraisal = replace(appraisal, claims=(*appraisal.claims, claim), optional=optional)
    return appraisal


def refused(label: str, title: str, why: str) -> Appraisal:
    """Evidence that is not even well formed."""
    return Appraisal(label, title, (Claim(f"{label}.format", "failed", why),))


def attempt(label: str, title: str, build: Callable[[], Appraisal]) -> Appraisal:
    """What `build` gives; refused when its parser raises anything."""
    try:
        return build()
    except BaseException as error:
        return refused(label, title, describe(error))


def describe(error: BaseException) -> str:
    """What a check raised, as a reason. Ctrl-C and the end of the program pass.

    Libraries written in Rust raise pyo3's PanicException, which is no Exception.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | Interrupted):
        raise error
    if isinstance(error, NotProven | NotChecked | NotRequested):
        return str(error)
    if isinstance(error, VmtoolError):
        return error.message
    text = textwrap.shorten(str(error), 200)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _run(id: str, check: Callable[[], str]) -> tuple[Claim, bool]:
    """The claim, and whether it is required."""
    try:
        return Claim(id, "proven", check()), True
    except NotRequested as reason:
        return Claim(id, "not-checked", str(reason)), False
    except (NotChecked, Outdated) as reason:
        return Claim(id, "not-checked", str(reason)), True
    except BaseException as error:
        return Claim(id, "failed", describe(error)), True


def compare(what: str, found: bytes, expected: bytes) -> str:
    """The value, which must be the expected one.

    Raises:
        NotProven: it is another.
    """
    if found != expected:
        raise NotProven(f"{what} is {found.hex()}, expected {expected.hex()}")
    return found.hex()


def compare_padded(what: str, found: bytes, expected: bytes) -> str:
    """As `compare`, of a field of fixed size that a shorter value is padded in with zeros."""
    if len(expected) > len(found):
        raise NotProven(f"{what} has {len(found)} bytes, {len(expected)} were expected")
    return compare(what, found, expected.ljust(len(found), b"\0"))
