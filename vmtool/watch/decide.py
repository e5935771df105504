"""What to do about one instance: a pure function of what is seen, what is remembered, and the clock.

It starts nothing and reads nothing, so that days of it run in a test. A promise is what `vmtool run` made when it said
ready; `stop` and `rm` withdraw it, and nobody else does.
"""

from __future__ import annotations

from dataclasses import replace

from vmtool.serving.restarts import STEADY_SECONDS
from vmtool.watch.looks import check_canary, check_claims, check_devices, check_health, due
from vmtool.watch.model import Act, Decision, Memory, Seen, once

# Seconds until a recovery that did not help is tried again.
RECOVER_AGAIN = 60.0


def decide(now: float, seen: Seen, memory: Memory, *, free: bool = True) -> Decision:
    """The next memory and what to do.

    Args:
        free: there is room for one more start; without it none is asked for, and the next look asks again.
    """
    if seen.withdrawn:
        return Memory(), (Act("abort", "aborted", "it was stopped"),) if seen.ours else ()
    if seen.state == "upgrading":
        return memory, ()
    if seen.state == "half-upgraded":
        return _half_upgraded(now, memory)
    if seen.state == "starting":
        # Of a person's start the promise is made again when it succeeds, and not before.
        return (memory if seen.ours else Memory()), ()
    if seen.state == "running":
        return _running(now, seen, memory)
    if seen.state == "damaged":
        return once(memory, "damaged", "its files cannot be read")
    if seen.state == "kept":
        return Memory(), ()
    return _down(now, seen, memory, free)


def _half_upgraded(now: float, memory: Memory) -> Decision:
    """An upgrade was killed on its way: it is undone, or finished, and tried again after a while."""
    if memory.next_try is not None and now < memory.next_try:
        return memory, ()
    return (replace(memory, next_try=now + RECOVER_AGAIN),
            (Act("recover", "upgrade-interrupted", "one of the two is removed"),))


def _down(now: float, seen: Seen, memory: Memory, free: bool) -> Decision:
    """It does not run."""
    promised = memory.promised or seen.state == "stopped"
    memory = replace(memory, promised=promised and seen.policy.policy != "no" and not seen.finished)
    if memory.run:
        memory = replace(memory, run="", next_try=None, sick=None, mute=None, unasked=None, wrong=0, unproven=0)
        return _next(now, seen, memory, Act("note", "finished", "its server ended with 0, which is no failure")
                     if seen.finished else Act("note", "died", "its process is gone"))
    if not memory.promised or memory.given_up:
        return memory, ()
    if memory.next_try is None:
        return _next(now, seen, memory, None)
    if now < memory.next_try or not free:
        return memory, ()
    return (replace(memory, tries=memory.tries + 1, next_try=None),
            (Act("start", "bring-back", f"try {memory.tries + 1} of {seen.policy.limit}"),))


def _next(now: float, seen: Seen, memory: Memory, note: Act | None) -> Decision:
    """When to try next, or that it is given up."""
    notes = (note,) if note else ()
    if not memory.promised:
        return memory, notes
    if memory.tries >= seen.policy.limit:
        return replace(memory, given_up=True), (*notes, Act(
            "note", "given-up", f"{memory.tries} starts in a row did not last: vmtool start once it is repaired"))
    return replace(memory, next_try=now + seen.policy.wait(memory.tries)), notes


def _running(now: float, seen: Seen, memory: Memory) -> Decision:
    acts: list[Act] = []
    if memory.run != seen.run:
        tries = 0 if memory.given_up else memory.tries
        back = tries > 0 and not memory.run
        memory = Memory(promised=seen.policy.policy != "no", tries=tries, run=seen.run, since=now,
                        due_health=now + seen.pace.health, due_canary=now + seen.pace.canary,
                        due_claims=now + seen.pace.claims, due_certificate=memory.due_certificate)
        acts += [Act("note", "brought-back")] if back else []
    if memory.next_try is not None:
        memory = replace(memory, next_try=None)
    if memory.tries and now - memory.since >= STEADY_SECONDS:
        memory = replace(memory, tries=0)
    for look in (check_devices, check_health, check_canary, check_claims):
        memory, more = look(now, seen, memory)
        acts += more
        if ending := [act for act in more if act.what in ("end", "restart")]:
            again = ending[0].what == "restart"
            return replace(memory, run="", promised=again, tries=memory.tries, next_try=None), tuple(acts)
    if seen.tls and now >= memory.due_certificate:
        # The command renews it when two thirds of its time are over, and else does nothing.
        memory, acts = replace(memory, due_certificate=now + seen.pace.certificate), [*acts, Act("renew")]
    return memory, (*acts, *due(now, seen, memory))
