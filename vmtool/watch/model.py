"""What watch sees of an instance, what it remembers, and what it does: frozen values, no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from vmtool.frozen import dataclass
from vmtool.serving.restarts import USUAL, RestartPolicy


@dataclass(frozen=True)
class Pace:
    """Seconds between two questions of a kind."""

    health: float = 30.0
    canary: float = 300.0
    claims: float = 900.0
    certificate: float = 21600.0


USUAL_PACE = Pace()
# A failure is looked at once more before anything is done about it.
AGAIN = 10.0
TIMES = 2

What = Literal["start", "restart", "end", "abort", "recover", "renew", "ask-health", "ask-canary", "ask-claims", "note"]
Result = Literal["", "good", "bad", "unanswered"]


@dataclass(frozen=True)
class Act:
    """What is to be done; of a note, what is to be written down.

    Args:
        event: for the instance's events; empty for none.
        why: for a person.
    """

    what: What
    event: str = ""
    why: str = ""


@dataclass(frozen=True)
class Seen:
    """One instance now.

    Args:
        state: see `Instance.state`.
        run: names the process that runs, so that another one is recognised; empty when none does.
        withdrawn: a person has stopped it.
        ours: it is a watch that starts it just now.
        canary, patience: whether a question with a known answer is there; seconds that it may be without health.
        health, answer, claims: results that came in since the last look; `why` is about a bad one.
        lost: of its GPUs, what the kernel reports now.
        pace: how often it is asked.
        tls: it shows a certificate, which ends one day.
        finished: its server has come to an end that is no failure, by its policy.
    """

    state: str
    run: str = ""
    withdrawn: bool = False
    ours: bool = False
    policy: RestartPolicy = USUAL
    strict: bool = False
    canary: bool = False
    patience: float = 600.0
    health: Result = ""
    answer: Result = ""
    claims: Result = ""
    why: str = ""
    lost: tuple[str, ...] = ()
    pace: Pace = USUAL_PACE
    tls: bool = False
    finished: bool = False


@dataclass(frozen=True)
class Memory:
    """What is remembered of it. The first three outlive watch: they are written down before an act.

    Args:
        tries: starts in a row, none of which led to a steady time.
        next_try, due_*: on the clock of `decide`.
        sick, mute, unasked: since when it is without health, without an answer to the canary, and without evidence.
        wrong, unproven: bad results in a row.
    """

    promised: bool = False
    tries: int = 0
    given_up: bool = False
    run: str = ""
    since: float = 0.0
    next_try: float | None = None
    due_health: float = 0.0
    due_canary: float = 0.0
    due_claims: float = 0.0
    due_certificate: float = 0.0
    sick: float | None = None
    mute: float | None = None
    unasked: float | None = None
    wrong: int = 0
    unproven: int = 0
    noted: str = ""


Decision = tuple[Memory, tuple[Act, ...]]


def once(memory: Memory, event: str, why: str) -> Decision:
    """Written down, unless it was the last thing that was."""
    if memory.noted == event:
        return memory, ()
    return replace(memory, noted=event), (Act("note", event, why),)
