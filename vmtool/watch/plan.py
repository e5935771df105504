"""The systemd unit that runs watch from every boot on."""

from __future__ import annotations

from pathlib import Path

from vmtool.isolation import python
from vmtool.paths import DEFAULT, State
from vmtool.plan import Plan, Remove, Run, Step, WriteFile
from vmtool.rendering import render_template
from vmtool.watch.model import USUAL_PACE, Pace

UNITS = Path("/etc/systemd/system")


def unit_of(state: State) -> str:
    """Its name: each state directory has its own."""
    return "vmtool-watch.service" if str(state.root) == DEFAULT else f"vmtool-watch-{state.run.name}.service"


def directory_of(state: State) -> Path:
    """Where its journal is."""
    return state.root / "watch" / "unit"


def plan_install(state: State, *, installed: str, pace: Pace = USUAL_PACE) -> Plan:
    """Write the unit, and start it now and at every boot; one that runs is started again, to be as it is written.

    Args:
        installed: the text of the unit that is there; empty without one.
    """
    name, text = unit_of(state), unit_text(state, pace)
    path = UNITS / name
    step = Step(
        f"install {name}",
        (WriteFile(path, text, mode=0o644), Run(("systemctl", "daemon-reload"), deadline=60),
         Run(("systemctl", "enable", name), deadline=60), Run(("systemctl", "restart", name), deadline=120)),
        undo=(Run(("systemctl", "disable", "--now", name), deadline=120,
                  absent_messages=("does not exist", "not loaded", "No such file")), Remove(path),
              Run(("systemctl", "daemon-reload"), deadline=60)),
        skip=f"{path} is there" if installed == text else "", replaces_previous=True)
    return Plan(f"watch {name}", directory_of(state), (step,))


def unit_text(state: State, pace: Pace = USUAL_PACE) -> str:
    """The unit's file."""
    words = python("-m", "vmtool", "--state-dir", str(state.root), "watch", *pace_options(pace))
    # Without its mount the state directory would seem to be empty at boot.
    return render_template("watch/vmtool-watch.service", root=str(state.root).replace("%", "%%"),
                           mounts=quoted(str(state.root)), command=" ".join(
                               quoted(word).replace("$", "$$") for word in words))


def pace_options(pace: Pace) -> tuple[str, ...]:
    """The options of `vmtool watch` that make it this pace."""
    kinds = (("--health-every", pace.health, USUAL_PACE.health), ("--canary-every", pace.canary, USUAL_PACE.canary),
             ("--claims-every", pace.claims, USUAL_PACE.claims))
    return tuple(word for option, seconds, usual in kinds if seconds != usual for word in (option, str(seconds)))


def quoted(word: str) -> str:
    """One word of a unit's line (systemd.syntax(7)); where variables are replaced, $ is yet to be doubled."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{safe}"' if safe != word or set(word) & set(" \t\'") else word
