"""What follows from the looks at an instance that runs: its GPUs, health, canary and claims; pure functions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmtool.watch.model import AGAIN, TIMES, Act, Decision, Memory, Seen, once


def check_devices(now: float, seen: Seen, memory: Memory) -> Decision:
    """A GPU that left the bus or hangs: what it computed cannot be proven any more."""
    if not seen.lost:
        return memory, ()
    why = "; ".join(seen.lost)
    acts = (Act("note", "gpu-lost", why),)
    return memory, (*acts, Act("end", "ended", f"strict: {why}")) if seen.strict else acts


def check_health(now: float, seen: Seen, memory: Memory) -> Decision:
    if not seen.health:
        return memory, ()
    memory = replace(memory, due_health=now + seen.pace.health)
    if seen.health == "good":
        return replace(memory, sick=None), (Act("note", "healthy"),) if memory.sick is not None else ()
    soon = now + min(AGAIN, seen.pace.health)
    if memory.sick is None:
        return replace(memory, sick=now, due_health=soon), (Act("note", "unhealthy", seen.why),)
    if now - memory.sick < seen.patience:
        return replace(memory, due_health=soon), ()
    return _again(seen, memory, f"no health for {now - memory.sick:.0f} s: {seen.why}")


def check_canary(now: float, seen: Seen, memory: Memory) -> Decision:
    """A wrong answer is worse than none; none may only mean that the server has much to do."""
    if not seen.answer:
        return memory, ()
    memory = replace(memory, due_canary=now + seen.pace.canary)
    if seen.answer == "good":
        again = bool(memory.wrong) or memory.mute is not None
        return replace(memory, wrong=0, mute=None), (Act("note", "canary-right"),) if again else ()
    memory = replace(memory, due_canary=now + min(AGAIN, seen.pace.canary))
    if seen.answer == "unanswered":
        first = memory.mute is None
        memory = replace(memory, mute=now if memory.mute is None else memory.mute)
        if now - (memory.mute or 0.0) >= seen.patience:
            return _again(seen, memory, f"no answer to the canary: {seen.why}")
        return memory, (Act("note", "canary-unanswered", seen.why),) if first else ()
    memory = replace(memory, wrong=memory.wrong + 1)
    note = Act("note", "canary-wrong", seen.why)
    if memory.wrong < TIMES:
        return memory, (note,)
    memory, acts = _again(seen, replace(memory, wrong=0), f"the canary is wrong: {seen.why}")
    return memory, (note, *acts)


def check_claims(now: float, seen: Seen, memory: Memory) -> Decision:
    """Only of a strict one: what was proven at the start must stay so."""
    if not seen.claims:
        return memory, ()
    memory = replace(memory, due_claims=now + seen.pace.claims)
    if seen.claims == "good":
        again = memory.unasked is not None
        return replace(memory, unproven=0, unasked=None), (Act("note", "proven-again"),) if again else ()
    memory = replace(memory, due_claims=now + min(AGAIN, seen.pace.claims))
    if seen.claims == "unanswered":
        since = now if memory.unasked is None else memory.unasked
        if now - since >= seen.patience:
            return memory, (Act("end", "ended", f"strict: not proven for {now - since:.0f} s: {seen.why}"),)
        first = memory.unasked is None
        return replace(memory, unasked=since), (Act("note", "claims-unanswered", seen.why),) if first else ()
    memory = replace(memory, unproven=memory.unproven + 1)
    note = Act("note", "unproven", seen.why)
    if memory.unproven < TIMES:
        return memory, (note,)
    return memory, (note, Act("end", "ended", f"strict: {seen.why}"))


def _again(seen: Seen, memory: Memory, why: str) -> Decision:
    """It runs but is no good: a strict one ends; one that may is started again; of others it is only written down."""
    if seen.strict:
        return memory, (Act("end", "ended", f"strict: {why}"),)
    if seen.policy.policy == "no":
        return memory, ()
    if memory.tries >= seen.policy.limit:
        return once(memory, "given-up", f"{why}; {memory.tries} starts in a row did not repair it")
    return memory, (Act("restart", "restart", why),)


def due(now: float, seen: Seen, memory: Memory) -> Iterator[Act]:
    """What is due; the loop asks nothing twice at a time, and a result sets the next moment."""
    if now >= memory.due_health:
        yield Act("ask-health")
    if seen.canary and now >= memory.due_canary and memory.sick is None:
        yield Act("ask-canary")
    if seen.strict and now >= memory.due_claims:
        yield Act("ask-claims")
