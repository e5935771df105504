"""The systemd unit that runs watch from every boot on."""

from __future__ import annotations

from pathlib import Path

from vmtool.isolation import python
from vmtool.paths import DEFAULT, State
from vmtool.plan import Plan, Remove, Run, Step, WriteFile
from vmtool.rendering import render_template

UNITS = Path("/etc/systemd/system")


def unit_of(state: State) -> str:
    """Its name: each state directory has its own."""
    return "vmtool-watch.service" if str(state.root) == DEFAULT else f"vmtool-watch-{state.run.name}.service"


def directory_of(state: State) -> Path:
    """Where its journal is."""
    return state.root / "watch" / "unit"


def plan_install(state: State, *, installed: str) -> Plan:
    """Write the unit, and start it now and at every boot.

    Args:
        installed: the text of the unit that is there; empty without one.
    """
    name, text = unit_of(state), unit_text(state)
    path = UNITS / name
    step = Step(
        f"install {name}",
        (WriteFile(path, text, mode=0o644), Run(("systemctl", "daemon-reload"), deadline=60),
         Run(("systemctl", "enable", "--now", name), deadline=60)),
        undo=(Run(("systemctl", "disable", "--now", name), deadline=120,
                  absent_messages=("does not exist", "not loaded", "No such file")), Remove(path),
              Run(("systemctl", "daemon-reload"), deadline=60)),
        skip=f"{path} is there" if installed == text else "", replaces_previous=True)
    return Plan(f"watch {name}", directory_of(state), (step,))


def unit_text(state: State) -> str:
    """The unit's file."""
    words = python("-m", "vmtool", "--state-dir", str(state.root), "watch")
    # Without its mount the state directory would seem to be empty at boot.
    return render_template("watch/vmtool-watch.service", root=str(state.root).replace("%", "%%"),
                           mounts=quoted(str(state.root)), command=" ".join(
                               quoted(word).replace("$", "$$") for word in words))


def quoted(word: str) -> str:
    """One word of a unit's line (systemd.syntax(7)); where variables are replaced, $ is yet to be doubled."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{safe}"' if safe != word or set(word) & set(" \t\'") else word
