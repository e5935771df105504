"""Finding in a plan what a test is about: a step by what it does, an action by its kind and its argument."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import TypeVar

from vmtool.plan import Action, Plan, Run, Step, WriteFile

Kind = TypeVar("Kind", bound=Action)


def step(plan: Plan, title: str) -> Step:
    """The one step whose title begins so."""
    [found] = [each for each in plan.steps if each.title.startswith(title)]
    return found


def one(actions: Iterable[Action], kind: type[Kind]) -> Kind:
    """The one action of that kind."""
    [found] = [action for action in actions if isinstance(action, kind)]
    return found


def run(actions: Iterable[Action], *words: str) -> Run:
    """The one program that is run with these words in its argument list."""
    [found] = [action for action in actions if isinstance(action, Run) and set(words) <= set(action.argv)]
    return found


def file(actions: Iterable[Action], name: str) -> WriteFile:
    """The one file of that name that is written."""
    [found] = [action for action in actions if isinstance(action, WriteFile) and action.path.name == name]
    return found


def works(text: str, worker: ModuleType, *words: str) -> bool:
    """Whether a line of a plan runs this worker with these words first, whatever the module is called."""
    return any(" ".join((worker.__name__, *words)) in line for line in text.splitlines())
