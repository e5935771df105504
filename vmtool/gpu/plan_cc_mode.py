"""Setting the confidential-computing mode: stage on all, reset together; and what production asks of the mode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vmtool.findings import Finding, host_lacks, refuse, wrong_input
from vmtool.gpu.cc_mode import INSTALL, MODES, CcState, has_ppcie, tool
from vmtool.gpu.device_types import has_cc_mode, kind_of
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
    there = [one for one in states if one.mode == one.setting == mode]
    if len(there) == len(states):
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


def check_cc(facts: GpuFacts, states: Sequence[CcState], mode: str, chosen: Sequence[PciDevice]) -> list[Finding]:
    """Reasons not to set the mode."""
    findings = [host_lacks("gpu.cc.not-checked", f"{one.bdf} ({one.type}): {one.verdict}: {one.why}", one.hint)
                for one in states if one.verdict != "checked"]
    names = {device.bdf for device in chosen}
    capable = [device for device in facts.inventory.accelerators
               if has_cc_mode(device) and (mode == "ppcie" or kind_of(device) == "gpu")]
    left = [device.bdf for device in capable if device.bdf not in names]
    if left:
        findings.append(wrong_input("gpu.cc.all", "all GPUs of a host must be in the same mode; missing: "
                                    f"{', '.join(left)}", "give no address: then it is for all of them"))
    if mode == "ppcie" and any(not has_ppcie(device) for device in chosen):
        findings.append(wrong_input("gpu.cc.ppcie", "ppcie is for Hopper GPUs with their NVSwitches",
                                    "Blackwell takes: cc-mode set on"))
    for device in chosen:
        if device.driver.startswith("nvidia"):
            findings.append(host_lacks("gpu.cc.driver", f"{device.bdf} is bound to {device.driver}, under which its "
                                       "mode cannot be set", f"vmtool gpu bind {device.bdf}"))
        findings += [host_lacks("gpu.in-use", f"{device.bdf} is used by {holder.command} (pid {holder.pid})",
                                f"kill {holder.pid}") for holder in facts.holders_of(device)]
    return findings


def check_production(states: Iterable[CcState]) -> list[Finding]:
    """Why these GPUs are not for production: devtools passes plain attestation and leaves the guest open."""
    found = [wrong_input("gpu.cc.mode", f"{one.bdf} is in mode {one.mode}, which is not confidential",
                         "vmtool gpu cc-mode set on")
             for one in states if one.verdict == "checked" and one.mode not in ("on", "ppcie")]
    return found + [host_lacks("gpu.cc.not-checked", f"{one.bdf}: whether it is confidential was not checked: "
                               f"{one.why}", INSTALL) for one in states if one.verdict == "not-checked"]
