"""Binding again at every boot: a file per device, and a unit that runs before udev loads any driver.

A udev rule per device would come too late: another device's event may have loaded the driver already, and a driver
takes all devices that it matches when it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from vmtool.gpu.boot_facts import DIRECTORY
from vmtool.gpu.vfio_driver import Choice
from vmtool.plan import MakeDir, Remove, Run, Step, WriteFile
from vmtool.rendering import render_template

SCRIPT = Path("/etc/vmtool/gpu-boot")
UNIT = Path("/etc/systemd/system/vmtool-gpu.service")


def plan_persist(choices: Sequence[tuple[str, Choice]]) -> tuple[Step, ...]:
    """Write the files and enable the unit; nothing of it touches a device now."""
    paths = {DIRECTORY / bdf: f"{choice.driver} {choice.module}\n" for bdf, choice in choices}
    return (
        Step(
            f"bind {', '.join(bdf for bdf, _ in choices)} at every boot",
            (
                MakeDir(DIRECTORY, mode=0o755),
                *(WriteFile(path, text, mode=0o644) for path, text in paths.items()),
                WriteFile(SCRIPT, render("boot"), mode=0o755),
                WriteFile(UNIT, render("vmtool-gpu.service"), mode=0o644),
                Run(("systemctl", "enable", UNIT.name), deadline=30),
            ),
            # Without its files the unit does nothing (ConditionDirectoryNotEmpty), so it may stay for other devices.
            undo=tuple(Remove(path) for path in paths),
            subjects=tuple(bdf for bdf, _ in choices),
        ),
    )


def plan_forget(bdfs: Iterable[str], *, last: bool) -> Step:
    """Bind these no more at boot; with the last one the unit goes too."""
    bdfs = tuple(bdfs)
    files = tuple(Remove(DIRECTORY / bdf) for bdf in bdfs)
    if last:
        disable = Run(("systemctl", "disable", UNIT.name), deadline=30, absent_messages=("does not exist",))
        # The files go last: as long as one is there, a release that ended half-way is found by the next one.
        return Step(f"bind {', '.join(bdfs)} at boot no more",
                    (disable, Remove(UNIT), Remove(SCRIPT), *files, Remove(DIRECTORY)), subjects=bdfs)
    return Step(f"bind {', '.join(bdfs)} at boot no more", files, subjects=bdfs)


def render(name: str) -> str:
    """A file of templates/gpu."""
    return render_template(f"gpu/{name}", directory=DIRECTORY, script=SCRIPT)

