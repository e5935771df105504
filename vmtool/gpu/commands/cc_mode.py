"""`vmtool gpu cc-mode`: show and set the confidential-computing mode of GPUs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from vmtool.cli.output import print_json, print_table
from vmtool.errors import NotReady, VerificationFailed
from vmtool.extras import adding
from vmtool.findings import refuse
from vmtool.gpu.cc_mode import CcState, has_tool, read_cc
from vmtool.gpu.device_types import has_cc_mode, kind_of, type_of
from vmtool.gpu.facts import GpuFacts, read_gpu
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.plan_cc_mode import plan_cc
from vmtool.gpu.select import check_address
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines

BDFS = click.argument("bdfs", nargs=-1, metavar="[BDF]...")


@click.group("cc-mode")
def cc_mode() -> None:
    """Show and set the confidential-computing mode (Hopper and later)."""


@cc_mode.command("show")
@BDFS
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def show(state: State, bdfs: tuple[str, ...], as_json: bool) -> None:
    """The mode now, and the setting after the next reset. Exit code 3 when a device could not be asked."""
    machine = LocalMachine()
    facts = read_gpu(machine, state)
    states = look(machine, facts, chosen(facts, bdfs, ""))
    if as_json:
        print_json(devices=[one.as_json() for one in states])
    elif states:
        table(states)
    else:
        click.echo("no GPUs", err=True)
    unknown = [one for one in states if one.verdict == "not-checked"]
    if unknown:
        raise NotReady(f"not checked: {', '.join(one.bdf for one in unknown)}: {unknown[0].why}",
                       hint=f"{adding('gpu')}; vmtool gpu bind takes them from nvidia's driver")


@cc_mode.command("set")
@click.argument("mode", type=click.Choice(["on", "off", "devtools", "ppcie"]))
@BDFS
@click.option("--dry-run", is_flag=True, help="Print the lines that would be done, and do nothing.")
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
@click.pass_obj
def set_(state: State, mode: str, bdfs: tuple[str, ...], dry_run: bool, yes: bool) -> None:
    """Stage the mode on all devices, reset them together, and read it back. Without addresses: all that have one."""
    from vmtool.gpu.commands.bind import confirm, do

    def make() -> Plan:
        machine = LocalMachine()
        facts = read_gpu(machine, state)
        devices = chosen(facts, bdfs, mode)
        if not devices:
            raise NotReady("no device of this host has a confidential-computing mode", hint="vmtool gpu cc-mode show")
        return plan_cc(state, facts, look(machine, facts, devices), mode, devices)

    plan = make()
    if dry_run:
        click.echo("\n".join(plan_lines(plan)))
        return
    if not yes:
        confirm(f"{plan.steps[0].title}?", f"vmtool gpu cc-mode set {mode}", [plan.subject] if plan.changes else [])
    do(state, plan.directory, make, "vmtool gpu cc-mode set")
    machine = LocalMachine()
    facts = read_gpu(machine, state)
    states = look(machine, facts, chosen(facts, bdfs, mode))
    table(states)
    wrong = [one.bdf for one in states if (one.mode, one.setting) != (mode, mode)]
    if wrong:
        raise VerificationFailed(f"not in mode {mode}: {', '.join(wrong)}",
                                 hint=f"setting again repairs an interrupted switch: vmtool gpu cc-mode set {mode}")
    if mode == "devtools":
        click.secho("devtools is for development: nothing in such a GPU is confidential", fg="yellow", err=True)


def chosen(facts: GpuFacts, bdfs: Sequence[str], mode: str) -> list[PciDevice]:
    """The devices of these addresses; of none, every GPU and switch, or for a mode those that have one.

    Raises:
        Refused: an address is wrong.
    """
    refuse([item for bdf in bdfs for item in check_address(facts.inventory, bdf)], "nothing was asked")
    if bdfs:
        return [device for bdf in bdfs if (device := facts.inventory.find(bdf.lower()))]
    kinds = ("gpu", "nvswitch") if mode in ("ppcie", "off", "") else ("gpu",)
    return [device for device in facts.inventory.whole
            if kind_of(device) in kinds and (not mode or has_cc_mode(device))]


def look(machine: LocalMachine, facts: GpuFacts, devices: Sequence[PciDevice]) -> tuple[CcState, ...]:
    """Ask the devices."""
    names = PciNames(machine)
    typed = [(device, type_of(device, names.name(device, locked=facts.inventory.is_locked(device))))
             for device in devices]
    return read_cc(machine, typed, installed=has_tool(), is_root=facts.is_root)


def table(states: Sequence[CcState]) -> None:
    """One line a device."""
    print_table(("BDF", "TYPE", "MODE NOW", "AFTER RESET", "VERDICT"),
                [(one.bdf, one.type, one.mode or "-", one.setting or "-",
                  one.verdict + (f": {one.why}" if one.why else "")) for one in states])
