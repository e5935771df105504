"""Finding in a plan what a test is about: a step by what it does, an action by its kind and its argument."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from types import ModuleType
from typing import Any, TypeVar

from vmtool.plan import Action, Plan, Run, RunWorker, Step, WriteFile
from vmtool.plan.workers import name_of

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


def orders(where: Plan | Iterable[Action], worker: ModuleType) -> list[dict[str, Any]]:
    """What a worker is to do, as JSON values, whatever its module is called."""
    actions = [action for step in where.steps for action in step.actions] if isinstance(where, Plan) else where
    return [action.order for action in actions if isinstance(action, RunWorker) and is_for(action.argv, worker)]


def is_for(argv: Iterable[str], worker: ModuleType) -> bool:
    """Whether a command line is that worker's."""
    return name_of(worker.__name__) in argv


def lines(actions: Iterable[Action]) -> list[str]:
    """What is done, a line each: of a program its arguments alone."""
    return [shlex.join(action.argv) if isinstance(action, Run) else action.shell() for action in actions]
