"""Reasons not to set a confidential-computing mode."""

from __future__ import annotations

from collections.abc import Sequence

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.gpu.cc_mode import CcState, has_ppcie
from vmtool.gpu.device_types import has_cc_mode, kind_of
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.pci import PciDevice


def check_cc(facts: GpuFacts, states: Sequence[CcState], mode: str, chosen: Sequence[PciDevice]) -> list[Finding]:
    """Reasons not to set the mode."""
    findings = [host_lacks("gpu.cc.not-checked", f"{one.bdf} ({one.type}): {one.verdict}: {one.why}", one.hint)
                for one in states if one.verdict != "checked"]
    names = {device.bdf for device in chosen}
    capable = [device for device in facts.inventory.whole
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
