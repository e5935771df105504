"""Plans and a monitor that the tests of the engine share."""

from __future__ import annotations

from pathlib import Path

from vmtool.engine import apply
from vmtool.paths import State
from vmtool.plan import Action, MakeDir, Plan, Remove, Step, WriteFile


class Quiet:
    """A monitor that remembers."""

    def __init__(self) -> None:
        self.reported: list[str] = []

    def step(self, title: str) -> None:
        self.reported.append(title)

    def skipped(self, title: str, why: str) -> None:
        self.reported.append(f"{title}: {why}")

    def note(self, text: str) -> None:
        self.reported.append(text)

    def done(self, seconds: float) -> None:
        pass


def make(path: Path, *more: Action, waits_only: bool = False) -> Step:
    return Step(f"make {path.name}", (MakeDir(path), *more), undo=(Remove(path),), waits_only=waits_only)


def do(state: State, *steps: Step, keep: bool = False, on: apply.MakeHost | None = None) -> Quiet:
    monitor = Quiet()
    plan = Plan("instance a", state.instance("a"), steps)
    apply.apply(lambda: plan, monitor, host_lock=state.host_lock, doing="a test", keep=keep, on=on)
    return monitor


IMPOSSIBLE = WriteFile(Path("/dev/null/x"), "")
