"""A plan as an exact runbook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmtool.plan.action import Action
from vmtool.plan.step import Plan


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan as an exact runbook: a comment line per step, a shell line per action."""
    for number, step in enumerate(plan.steps, 1):
        yield f"# {number}. {step.title}" + (f" (nothing to do: {step.skip})" if step.skip else "")
        if not step.skip:
            yield from shell_lines(step.actions)


def shell_lines(actions: Iterable[Action]) -> Iterator[str]:
    """Each action as the shell line that it amounts to."""
    return (action.shell() for action in actions)
