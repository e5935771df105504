"""Steps and plans. A step carries its own undo, which is journalled before the step's first action; so every undo
action must be harmless when the thing that it removes is not there (yet, or any more)."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.plan.action import Action


@dataclass(frozen=True)
class Step:
    """One line of the runbook's table of contents.

    Args:
        title: what it achieves, for a person.
        actions: in order.
        undo: in order; each harmless when there is nothing to undo.
        skip: why there is nothing to do; empty when there is.
        waits_only: the step only waits and looks, so the host lock need not be held for it.
        clears_previous: when it is done, nothing of what was begun before is left to undo, itself included.
        replaces_previous: its undo is also that of what the transaction before on this subject did, which was applied;
            until it is on record, that one stays on record; in no document.
        ends_previous: the last step of a plan whose result takes the place of what the transaction before did, which
            goes on until then: up to here an undo leads back to that one, and from here on it is what is undone.
            `actions` are that undo, which is done from the journal.
        inherited: what it made is that transaction's, and needed by both: its undo, which is the one on record, is
            left undone as long as either of them stays; in no document.
        closing: done after all steps that are not, in order, and under the host's lock unless it `waits_only`; in no
            document.
        subjects: what it changes, such as PCI addresses, for code that asks a plan what it is about; in no document.
    """

    title: str
    actions: tuple[Action, ...] = ()
    undo: tuple[Action, ...] = ()
    skip: str = ""
    waits_only: bool = False
    clears_previous: bool = False
    replaces_previous: bool = field(default=False, metadata={"json": False})
    ends_previous: bool = field(default=False, metadata={"json": False})
    inherited: bool = field(default=False, metadata={"json": False})
    closing: bool = field(default=False, metadata={"json": False})
    subjects: tuple[str, ...] = field(default=(), metadata={"json": False})


@dataclass(frozen=True)
class Plan:
    """Steps for one subject, such as `instance quickstart`; the journal is in `directory`.

    Args:
        facts: what was read of the host to make it, as a recorded host; kept beside the plan, in no other document.
        slot: the directory below `directory` that it and what it makes are kept in; empty for `directory` itself.
    """

    subject: str
    directory: Path
    steps: tuple[Step, ...]
    facts: str = field(default="", metadata={"json": False})
    slot: str = field(default="", metadata={"json": False})

    @property
    def changes(self) -> bool:
        """Whether applying it would do anything."""
        return any(not step.skip for step in self.steps)
