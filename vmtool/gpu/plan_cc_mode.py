"""Setting the confidential-computing mode: stage on all, reset together; and what production asks of the mode."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.findings import refuse
from vmtool.gpu.cc_mode import MODES, CcState, has_ppcie, tool
from vmtool.gpu.check_cc_mode import check_cc
from vmtool.gpu.device_types import kind_of
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.pci import PciDevice
from vmtool.paths import State
from vmtool.plan import Action, Plan, Run, Step

# Seconds; a reset of eight GPUs and four switches with the boot of their firmware.
RESET = 300.0


def plan_cc(state: State, facts: GpuFacts, states: Sequence[CcState], mode: str, chosen: Sequence[PciDevice]) -> Plan:
    """Stage the setting on all, then reset all; `vmtool.gpu.commands.cc_mode` reads back.

    Raises:
        Refused, NotReady: with every problem.
    """
    refuse(check_cc(facts, states, mode, chosen), "no mode was changed")
    existing = [one for one in states if one.mode == one.setting == mode]
    if len(existing) == len(states):
        return Plan("gpu cc-mode", state.root / "gpu" / "cc-mode",
                    (Step(f"set {mode}", skip="every device is in that mode, and stays in it"),))
    before = {one.bdf: one.setting for one in states}
    names = [device.bdf for device in chosen]
    reset = Run(tool("--devices", ",".join(names), "--reset-with-os"), deadline=RESET)
    undo = tuple(action for old in sorted(set(before.values())) if old in MODES
                 for action in stage(old, [device for device in chosen if before[device.bdf] == old]))
    title = f"stage {mode} on {', '.join(names)} and reset them"
    step = Step(title, (*stage(mode, chosen), reset), undo=(*undo, reset))
    return Plan("gpu cc-mode", state.root / "gpu" / "cc-mode", (step,))


def stage(mode: str, devices: Sequence[PciDevice]) -> tuple[Action, ...]:
    """Set what is to be after the next reset. Setting one of CC and PPCIe, the tool turns the other off."""
    gpus = ",".join(device.bdf for device in devices if kind_of(device) == "gpu")
    all_ = ",".join(device.bdf for device in devices if has_ppcie(device))
    switches = ",".join(device.bdf for device in devices if kind_of(device) == "nvswitch")
    if mode == "ppcie":
        return (Run(tool("--devices", all_, "--set-ppcie-mode", "on"), deadline=120),)
    runs = [Run(tool("--devices", gpus, "--set-cc-mode", mode), deadline=120)] if gpus else []
    return (*runs, *([Run(tool("--devices", switches, "--set-ppcie-mode", "off"), deadline=120)] if switches else []))


