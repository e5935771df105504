"""What is checked of a bundle's plan and journal: each by its own checksums, and the one against the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmtool.attest.cursor import require
from vmtool.bundle.contents import JOURNAL, PLAN
from vmtool.bundle.opened import OpenedBundle
from vmtool.cli.apply_plan import parse_journal
from vmtool.instance.instance import subject_of
from vmtool.records import unsealed

UNDOING = ("undoing", "undone")


def verify_plan(opened: OpenedBundle) -> str:
    """The plan is as it was written, and of this instance.

    Raises:
        NotProven, ValueError: it is not.
    """
    plan = _plan(opened)
    directory = str(Path(plan["directory"]) / opened.record.slot)
    require((plan["subject"], directory) == (subject_of(opened.head.instance), opened.head.directory),
            f"{PLAN} is of another instance")
    return f"{len(plan['steps'])} steps"


def _plan(opened: OpenedBundle) -> dict[str, Any]:
    plan, has_checksum = unsealed(opened.members[PLAN])
    require(has_checksum, f"{PLAN} has no checksum: an earlier vmtool wrote it")
    return plan


def verify_journal(opened: OpenedBundle) -> str:
    """Each record carries its number and its checksum, none is missing, and its steps are those of the plan.

    Raises:
        NotProven: it is not so.
    """
    records, problems = parse_journal(opened.members[JOURNAL], f"instances/{opened.head.instance}")
    require(not problems, "; ".join(f"{JOURNAL}:{line}: {why}" for line, why in problems[:3]))
    require(bool(records) and records[0]["event"] == "plan" and records[0].get("subject") == subject_of(
        opened.head.instance), f"{JOURNAL} does not begin with a plan of this instance")
    took_place = any(record["event"] == "applied" and record.get("ends_previous") for record in records)
    if opened.head.pid is not None:
        # After an upgrade follows what became of the one before.
        last = [record["event"] for record in records if not took_place or record["event"] not in UNDOING][-1]
        require(last == "applied", f"{JOURNAL} ends with {last!r}: the launch of what runs is not in it to its end")
    # What only waits is done at last, when the host's lock was let go. An upgrade's plan is in the order in which it is
    # done, and its last step is the undo of the one before.
    planned_steps = _plan(opened)["steps"]
    steps = planned_steps[:-1] if took_place else sorted(planned_steps, key=lambda step: bool(step["waits_only"]))
    planned = [(step["title"], step["undo"]) for step in steps if not step["skip"]]
    begun = [(record["title"], record["undo"]) for record in records if record["event"] == "step"]
    # What an earlier transaction left to undo is carried over, before the plan's own steps.
    require(begun[len(begun) - len(planned):] == planned or opened.head.pid is None,
            f"{JOURNAL}: its steps are not the plan's")
    return f"{len(records)} records, {len(begun)} steps"
