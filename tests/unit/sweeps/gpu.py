"""Devices: bound, with all that can go along, and released; their confidential-computing mode."""

from __future__ import annotations

from typing import Any

from tests.fakes.machine import FakeMachine
from tests.fakes.recorded import Recorded
from tests.unit.gpu.cases import CARD, H100
from tests.unit.sweeps.engine import Boot, Case, booted
from vmtool.gpu.boot_facts import read_persisted
from vmtool.gpu.cc_mode import CcState
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.plan_bind import plan_bind
from vmtool.gpu.plan_cc_mode import plan_cc
from vmtool.gpu.plan_release import plan_release
from vmtool.gpu.select import DeviceRequest
from vmtool.paths import State
from vmtool.plan import Plan

DAEMON = "nvidia-persistenced.service"
CONSOLE: dict[str, Any] = {"texts": {"/sys/class/vtconsole/vtcon1/bind": "1\n"}}
LEFT = {
    r"devices names /sys/bus/pci/drivers": "a module that was loaded stays: a driver without devices does nothing",
    r"devices links .*/iommu_group": "the kernel gives some devices a group on their first probe (device tree)",
    r"files /etc/vmtool(/gpu.d)?": "an empty directory",
    r"files /etc/(vmtool/gpu-boot|systemd/system/.*)": "without its files the unit does nothing, and other devices may "
                                                       "have some (ConditionDirectoryNotEmpty)",
}
SLEEPING = {"texts": {f"/sys/bus/pci/devices/{H100[1]}/power/control": "auto\n",
                      f"/sys/bus/pci/devices/{H100[1]}/d3cold_allowed": "1\n"}}


def host(name: str, *running: str, **changes: Any) -> Boot:
    """A recorded host whose devices are used by nobody but services, of which these run."""
    def boot(state: State) -> FakeMachine:
        recorded = Recorded.load(f"gpu-{name}", **{"names": {"/proc": ["1180"] if running else None}, **changes})
        machine = FakeMachine(recorded)
        machine.devices.units = dict.fromkeys(running, True)
        return machine

    return boot


def persistent(state: State) -> FakeMachine:
    """A host on which the kernel's persistence mode keeps a GPU in use."""
    machine = host("hgx-h100", DAEMON)(state)
    machine.devices.persistence = {H100[0]: True, H100[1]: False}
    return machine


def bind(*bdfs: str, **wish: Any) -> Any:
    return lambda state, machine: plan_bind(state, read_gpu(machine, state), DeviceRequest(bdfs=bdfs, **wish))


def release(state: State, machine: FakeMachine) -> Plan:
    return plan_release(state, read_gpu(machine, state), (), read_persisted(machine))


def on_vfio(staged: str) -> Boot:
    """Two GPUs on VFIO, and the mode that each is to have after its next reset."""
    def boot(state: State) -> FakeMachine:
        links = {f"/sys/bus/pci/devices/{bdf}/driver": "../../../bus/pci/drivers/vfio-pci" for bdf in H100}
        machine = host("hgx-h100", links=links)(state)
        machine.devices.modes = dict.fromkeys(H100, ("off", staged))
        return machine

    return boot


def cc(mode: str) -> Any:
    def make(state: State, machine: FakeMachine) -> Plan:
        facts = read_gpu(machine, state)
        states = [CcState(bdf, "nvidia-h100", "checked", *modes) for bdf, modes in machine.devices.modes.items()]
        return plan_cc(state, facts, states, mode, [device for device in facts.inventory.devices
                                                    if device.bdf in machine.devices.modes])

    return make


BOUND = booted(host("hgx-h100"), bind(*H100[:2], persist=True))
CASES = {
    "gpu bind": Case(host("hgx-h100", **SLEEPING), bind(*H100[:2]), LEFT),
    "gpu bind, for an instance": Case(host("hgx-h100"), bind(H100[0], owner="instance a"), LEFT),
    "gpu bind, at every boot": Case(host("hgx-h100"), bind(H100[0], persist=True), LEFT),
    "gpu bind, from services": Case(persistent, bind(H100[0], stop_services=True), LEFT),
    "gpu bind, the display": Case(host("desktop", **CONSOLE), bind(CARD[0], boot_vga=True, others=("0000:02:00.0",)),
                                  LEFT),
    "gpu bind, a firmware framebuffer": Case(host("bootfb"), bind("0000:c3:00.0", boot_vga=True), {
        **LEFT, "devices texts /proc/iomem": "the platform device's region went with the BAR it lay in"}),
    "gpu bind, for an instance, what is bound": Case(booted(host("hgx-h100"), bind(H100[0])),
                                                     bind(*H100[:2], owner="instance a"), LEFT),
    "gpu bind, a variant": Case(host("grace"), bind("0009:01:00.0"), LEFT),
    "gpu release": Case(BOUND, release, {r"files /etc/vmtool/gpu.d": "an empty directory"}, repeated=True),
    "gpu cc-mode set on": Case(on_vfio("off"), cc("on")),
    "gpu cc-mode set devtools": Case(on_vfio("off"), cc("devtools")),
}
