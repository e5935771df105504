"""What watches or forbids every change: empty, until a room has something to say about all of them.

An authoriser is asked before the first action of a plan, of an undo that somebody asks for (`rm`, `net del`,
`recover`; that of a failure belongs to its plan), of `vmtool stop` and of `vmtool exec`, each shown as the plan that it
amounts to. It refuses by raising. An observer is called before and after each journal record. An action lies between
its record `begin` and its record `end` (or `failed`), so the observer sees each action before and after it, too; of an
undo it sees each step, between `undoing` and `undone`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from vmtool.frozen import dataclass
from vmtool.plan import Plan

Moment = Literal["before", "after"]


@dataclass(frozen=True)
class Event:
    """A record of a journal, about to be written or durable.

    What a new transaction carries over from the one before, to undo it later, was shown then and is not shown again.

    Args:
        directory: where the journal lies.
        name: the record's event, see `vmtool.engine.journal`.
        values: the record's other values, such as `shell` or `title`.
    """

    moment: Moment
    directory: Path
    name: str
    values: Mapping[str, Any]


authorisers: tuple[Callable[[Plan], None], ...] = ()
observers: tuple[Callable[[Event], None], ...] = ()


def authorise(plan: Plan) -> None:
    """Ask every authoriser.

    Raises:
        Exception: whatever an authoriser refuses with; nothing has been written then.
    """
    for ask in authorisers:
        ask(plan)


@contextlib.contextmanager
def observed(directory: Path, name: str, values: Mapping[str, Any], *, undoing: bool = False) -> Iterator[None]:
    """Show the record that the block writes to every observer, before and after it.

    Args:
        undoing: the record is of an undo, which no observer may stop: what one raises is dropped.
    """
    _observe(Event("before", directory, name, values), undoing)
    yield
    _observe(Event("after", directory, name, values), undoing)


def _observe(event: Event, undoing: bool) -> None:
    for observe in observers:
        try:
            observe(event)
        except Exception:
            if not undoing:
                raise
