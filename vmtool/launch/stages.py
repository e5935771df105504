"""The parts of a launch in their order, and the launchers by handler.

A new part of a launch is a stage in a file of its own and one word here; a new launcher is one line in `LAUNCHERS`.
"""

from __future__ import annotations

import importlib

from vmtool.stage.devices import DevicesStage
from vmtool.stage.encryption import EncryptionStage
from vmtool.stage.files import FilesStage
from vmtool.stage.image import ImageStage
from vmtool.stage.launch import Launch, Launcher, Stage
from vmtool.stage.model import ModelStage
from vmtool.stage.network import NetworkStage
from vmtool.stage.server import CanaryStage, HealthStage
from vmtool.stage.tls import OwnKeyStage, TlsStage

# Before the launcher's own part, and after it.
BEFORE: tuple[Stage, ...] = (ModelStage(), EncryptionStage(), FilesStage(), ImageStage(), NetworkStage(),
                             DevicesStage(), TlsStage())
AFTER: tuple[Stage, ...] = (OwnKeyStage(), HealthStage(), CanaryStage())
STAGES = (*BEFORE, *AFTER)
# Handler -> module below vmtool with its LAUNCHER, imported when it is asked for.
LAUNCHERS = {"runc": "runc.stage", "kata": "kata.stage", "libvirt": "libvirt.stage"}


def launcher_of(handler: str) -> Launcher:
    """The launcher for a handler of the spec."""
    found: Launcher = importlib.import_module(f"vmtool.{LAUNCHERS[handler]}").LAUNCHER
    return found


def stages_of(launch: Launch) -> tuple[Stage, ...]:
    """All parts of the launch, in order."""
    return (*BEFORE, launch.launcher, *AFTER)
