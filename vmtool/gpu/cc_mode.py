"""The confidential-computing mode of NVIDIA GPUs, through NVIDIA's gpu-admin-tools in a process of its own.

There are two values: the mode that a device is in, and the setting that it will have after its next reset. A process of
its own and isolated (-I), since the tool's modules are called `cli`, `gpu` and `utils`, and it ends with exit().
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vmtool.extras import adding
from vmtool.frozen import dataclass
from vmtool.gpu.device_types import has_cc_mode, kind_of
from vmtool.gpu.pci import BDF, PciDevice
from vmtool.isolation import python
from vmtool.machine import Reader

MODES = ("on", "off", "devtools", "ppcie")
TOOL = "nvidia_gpu_tools"


@dataclass(frozen=True)
class CcState:
    """What a device says.

    Args:
        verdict: "checked", "not-applicable" or "not-checked"; `why` explains the latter two.
        mode: on, off, devtools or ppcie: now.
        setting: the same, after the next reset.
        hint: what would let it be checked, when a person can do something for it.
    """

    bdf: str
    type: str
    verdict: str
    mode: str = ""
    setting: str = ""
    why: str = ""
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        """What `vmtool gpu cc-mode show --json` has of it."""
        return {"bdf": self.bdf, "type": self.type, "verdict": self.verdict, "mode": self.mode,
                "setting": self.setting, "why": self.why}


def has_tool() -> bool:
    """Whether the extra is installed; nothing of it is run."""
    return importlib.util.find_spec(TOOL) is not None


def tool(*words: str) -> tuple[str, ...]:
    """The argv of a call."""
    return python("-m", TOOL, *words)


def read_cc(reader: Reader, devices: Iterable[tuple[PciDevice, str]], *, installed: bool,
            is_root: bool) -> tuple[CcState, ...]:
    """Ask each device.

    Args:
        devices: with their types.
        installed: whether the tool is there.
    """
    devices = list(devices)
    states = {device.bdf: _before(device, type_, installed, is_root) for device, type_ in devices}
    asked = [device for device, _ in devices if states[device.bdf].verdict == "checked"]
    gpus = [device.bdf for device in asked if kind_of(device) == "gpu"]
    hopper = [device.bdf for device in asked if has_ppcie(device)]
    texts = [_ask(reader, gpus, "cc"), _ask(reader, hopper, "ppcie")]
    for text in texts:
        for bdf, values in parse(text).items():
            if bdf in states:
                states[bdf] = _merge(states[bdf], values)
    silent = "the tool did not tell; it refuses while nvidia's driver is bound"
    return tuple(replace(one, verdict="not-checked", why=silent) if one.verdict == "checked" and not one.mode else one
                 for one in states.values())


def has_ppcie(device: PciDevice) -> bool:
    """Whether it has Protected PCIe: Hopper's GPUs and their switches. Blackwell uses `on` for several GPUs too."""
    return has_cc_mode(device) and (kind_of(device) == "nvswitch" or 0x2300 <= device.device < 0x2400)


def parse(text: str) -> dict[str, dict[str, str]]:
    """From the tool's log: "... GPU 0000:18:00.0 H100 ... CC mode is on", and below "... CC settings:" the lines
    "enable = 1", "enable-devtools = 0"; the same with PPCIe."""
    found: dict[str, dict[str, str]] = {}
    bdf = kind = ""
    for line in text.splitlines():
        address = BDF.search(line)
        if said := re.search(r"\b(CC|PPCIe) mode is (\S+?)\.?$", line):
            if address:
                found.setdefault(address[0], {})[f"{said[1].lower()}-mode"] = said[2]
        elif said := re.search(r"\b(CC|PPCIe) settings:$", line):
            bdf, kind = address[0] if address else "", said[1].lower()
        elif (said := re.search(r"\b(enable(?:-devtools)?) = (\d+)$", line)) and bdf:
            found.setdefault(bdf, {})[f"{kind}-{said[1]}"] = said[2]
    return found


def _before(device: PciDevice, type_: str, installed: bool, is_root: bool) -> CcState:
    if not has_cc_mode(device):
        return CcState(device.bdf, type_, "not-applicable", why="no such mode before Hopper or in this model")
    if not installed:
        return CcState(device.bdf, type_, "not-checked", why="the extra is not installed", hint=adding("gpu"))
    return CcState(device.bdf, type_, "checked" if is_root else "not-checked", why="" if is_root else "it needs root")


def _ask(reader: Reader, bdfs: Sequence[str], kind: str) -> str:
    if not bdfs:
        return ""
    output = reader.run(tool("--devices", ",".join(bdfs), f"--query-{kind}-mode", f"--query-{kind}-settings"), 60.0)
    return output.out + "\n" + output.err if output else ""


def _merge(state: CcState, values: dict[str, str]) -> CcState:
    """PPCIe counts as the mode while it is on."""
    mode, setting = state.mode, state.setting
    if "cc-mode" in values:
        on = values.get("cc-enable") == "1"
        mode = values["cc-mode"]
        setting = ("devtools" if values.get("cc-enable-devtools") == "1" else "on") if on else "off"
    if "ppcie-mode" in values:
        mode = "ppcie" if values["ppcie-mode"] == "on" else mode or "off"
        setting = "ppcie" if values.get("ppcie-enable") == "1" else setting or "off"
    return replace(state, mode=mode, setting=setting)
