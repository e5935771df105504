"""`vmtool gpu`: what accelerators there are, giving them to VFIO and back."""

from __future__ import annotations

import importlib
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from vmtool.cli.output import print_json, print_table
from vmtool.errors import Refused
from vmtool.gpu.boot_facts import read_persisted
from vmtool.gpu.inventory import read_inventory
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.vfio_driver import is_vfio
from vmtool.gpu.view import HEAD, cells, details, row
from vmtool.host.local import LocalMachine
from vmtool.paths import State

if TYPE_CHECKING:
    from vmtool.claims import Claim
    from vmtool.gpu.facts import GpuFacts

BDFS = click.argument("bdfs", nargs=-1, metavar="[BDF]...")
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


# Imported when typed. `unbind` is another word for `release`.
MORE = {"bind": ("bind", "bind"), "release": ("bind", "release"), "unbind": ("bind", "release"),
        "cc-mode": ("cc_mode", "cc_mode")}


class Commands(click.Group):
    """The commands of this module, and those of `MORE`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *(name for name in MORE if name != "unbind")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MORE:
            return super().get_command(ctx, cmd_name)
        module, name = MORE[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"vmtool.gpu.commands.{module}"), name)
        return command


@click.group(cls=Commands)
def gpu_command() -> None:
    """List accelerators, bind them to VFIO, give them back."""


@gpu_command.command("list")
@click.option("--all", "everything", is_flag=True, help="All PCI devices.")
@click.option("-o", "output", type=click.Choice(["name", "json"]), help="Addresses only, or JSON.")
@JSON
@click.pass_obj
def list_devices(state: State, everything: bool, output: str | None, as_json: bool) -> None:
    """List GPUs, NVSwitches and other accelerators."""
    machine = LocalMachine()
    inventory = read_inventory(machine, state)
    devices = inventory.devices if everything else inventory.accelerators
    if output == "name":
        click.echo("".join(f"{device.bdf}\n" for device in devices), nl=False)
        return
    names, persisted = PciNames(machine), read_persisted(machine)
    items = [row(inventory, names, device, persisted) for device in devices]
    if as_json or output == "json":
        print_json(devices=items)
    elif items:
        print_table(HEAD, [cells(item) for item in items])
    else:
        click.echo("no accelerators; vmtool gpu list --all shows every PCI device", err=True)


@gpu_command.command("status")
@BDFS
@JSON
@click.pass_obj
def status(state: State, bdfs: tuple[str, ...], as_json: bool) -> None:
    """Tell all about devices: who uses them, where they came from, where they hang."""
    from vmtool.gpu.facts import read_gpu
    from vmtool.gpu.select import check_address

    machine = LocalMachine()
    facts = read_gpu(machine, state)
    inventory = facts.inventory
    asked = _ask(machine, facts)
    wrong = [item for bdf in bdfs for item in check_address(inventory, bdf) if bdf.lower() not in inventory.details]
    if wrong:
        raise Refused(wrong[0].text, hint=wrong[0].hint, details=[item.text for item in wrong[1:]])
    names, persisted = PciNames(machine), read_persisted(machine)
    chosen = [device for device in inventory.devices if device.bdf in {bdf.lower() for bdf in bdfs}]
    items = []
    for device in chosen or inventory.accelerators:
        item = row(inventory, names, device, persisted) | {
            "holders": [asdict(holder) for holder in facts.holders_of(device)],
            **({"viable": asdict(asked[device.bdf])} if device.bdf in asked else {}),
            "persistence_mode": device.bdf in facts.persistent, "hung_at": inventory.hung.get(device.bdf, ())}
        items.append(item)
        if not as_json:
            members = [(other, names.name(other, locked=inventory.is_locked(other)))
                       for other in inventory.members(device)]
            click.echo("\n".join(details(item, members)))
    if as_json:
        print_json(devices=items)


def _ask(machine: LocalMachine, facts: GpuFacts) -> dict[str, Claim]:
    """Ask the kernel again of the devices that VFIO has and no machine uses: whether a machine would get them."""
    from vmtool.gpu.proof import verify_vfio

    free = {f"{DEVICES}/{device.bdf}": device.bdf for device in facts.inventory.devices
            if is_vfio(device.driver) and device.bdf not in facts.inventory.hung
            and device.bdf not in facts.inventory.claims and not facts.holders_of(device)}
    return {free[directory]: claim for directory, claim in verify_vfio(machine, tuple(free)).items()}
