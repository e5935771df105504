"""A subject whose journal is damaged, gone, or does not know of what is there: what is wrong, and what can be found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vmtool.cli.apply_plan import journal_damage, replay
from vmtool.errors import Damaged, Refused, VmtoolError
from vmtool.frozen import dataclass
from vmtool.instance.instance import Instance, Paths, subject_of
from vmtool.instance.process import search_process
from vmtool.instance.read import read_instance
from vmtool.launch.commands.remains import read_remains
from vmtool.machine import Reader
from vmtool.paths import State, checked_name
from vmtool.plan import Remove, Step

ROOMS = ("instances", "networks", "images", "work", "gpu", "builds", "rootfs")


@dataclass(frozen=True)
class Subject:
    """What a person names to `vmtool recover --adopt`.

    Args:
        damage: what is wrong with its journal or record; None when they are as they were written.
        followed: it was applied, and its journal tells how it is undone.
        found: what is on the machine.
        pid: of an instance that runs.
        aside: its damaged files beside the journal.
    """

    directory: Path
    title: str
    removal: str
    damage: Damaged | None
    followed: bool
    found: Sequence[Step]
    pid: int | None = None
    aside: tuple[Path, ...] = ()

    @property
    def damaged(self) -> bool:
        return self.damage is not None

    @property
    def why(self) -> str:
        return self.damage.message if self.damage else "its journal does not know of what is there"


def read_subject(reader: Reader, state: State, word: str) -> Subject:
    """Look at it, and for it.

    Raises:
        Refused: the word names nothing of vmtool's.
    """
    room, _, name = word.rpartition("/")
    room = room or "instances"
    if room not in ROOMS:
        raise Refused(f"{word!r} names no instance and nothing else that vmtool undoes",
                      hint="name an instance, or one of: " + ", ".join(f"{each}/NAME" for each in ROOMS[1:]))
    directory = state.root / room / checked_name(name, "an instance")
    found = read_remains(reader, state, directory)
    if room == "instances":
        return _instance(reader, state, directory, found)
    damage = journal_damage(directory)
    removals = {"networks": f"vmtool net del {name}", "images": f"vmtool image rm {name}"}
    return Subject(directory, f"{room}/{name}", removals.get(room, "vmtool recover"), damage,
                   not damage and replay(directory).state == "applied", found)


def _instance(reader: Reader, state: State, directory: Path, found: Sequence[Step]) -> Subject:
    name, paths = directory.name, Paths(directory)
    try:
        instance = read_instance(state, name)
    except VmtoolError:  # there is no directory
        return Subject(directory, subject_of(name), "", None, False, found, search_process(reader, state, name))
    unreadable = instance.damage is not None and instance.record is None
    return Subject(directory, subject_of(name), f"vmtool rm {name}", instance.damage,
                   instance.journal.state == "applied", found, instance.pid, (paths.record,) if unreadable else ())


def read_known(reader: Reader, state: State, name: str) -> Instance:
    """An instance.

    Raises:
        VmtoolError: there is none of that name; what is on the machine all the same is said.
    """
    try:
        return read_instance(state, name)
    except VmtoolError as error:
        found = read_remains(reader, state, state.instance(name))
        error.details = tuple(f"on this machine: {step.title}" for step in found)
        error.hint = f"vmtool recover --adopt {name}" if found else error.hint
        raise


def explained(reader: Reader, state: State, name: str, damage: Damaged) -> Damaged:
    """What is wrong with an instance, with what of it is on the machine."""
    found, pid = read_remains(reader, state, state.instance(name)), read_instance(state, name).pid
    runs = f"it runs (pid {pid})" if pid else "no process of it was found"
    return Damaged(damage.message, hint=damage.hint, log=damage.log, details=[
        *damage.details, runs, *(f"on this machine: {step.title}" for step in found)])


def require_gone(reader: Reader, state: State, directory: Path, problems: Sequence[str] = ()) -> None:
    """Look whether anything of an instance is left that was undone from its journal; not in its own directory, where
    what was started again keeps its key.

    Args:
        problems: what could not be undone.

    Raises:
        VmtoolError: something is.
    """
    if found := [step for step in read_remains(reader, state, directory) if not _is_inside(step, directory)]:
        raise VmtoolError(f"{directory.name}: it was undone from its journal, and something of it is still there",
                          details=[*problems, *(f"on this machine: {step.title}" for step in found)],
                          hint=f"vmtool recover --adopt {directory.name}", log=str(directory / "log" / "host.log"))


def _is_inside(step: Step, directory: Path) -> bool:
    return all(isinstance(action, Remove) and action.path.is_relative_to(directory) for action in step.undo)
