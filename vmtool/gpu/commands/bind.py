"""`vmtool gpu bind` and `release`: give devices to VFIO, and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from vmtool.cli.apply_plan import apply_and_explain, read_interrupted
from vmtool.cli.numbers import Seconds
from vmtool.cli.output import print_table
from vmtool.errors import NotReady, Refused
from vmtool.gpu import plan_bind as binding
from vmtool.gpu import plan_release as releasing
from vmtool.gpu.boot_facts import initramfs_drivers, read_persisted
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.inventory import Inventory, read_inventory
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.select import DeviceRequest
from vmtool.gpu.view import HEAD, cells, row
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines

BDFS = click.argument("bdfs", nargs=-1, metavar="[BDF]...")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print the lines that would be done, and do nothing.")
DEADLINE = click.option("--deadline", type=Seconds(0.1), default=20.0, show_default=True,
                        help="Seconds that the kernel has for each step.")


@click.command("bind")
@BDFS
@click.option("--all", "everything", is_flag=True, help="Every accelerator of this host.")
@click.option("--type", "type_", metavar="TYPE", default="", help="Those of a type, such as nvidia-h100.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="N free ones, near to each other.")
@click.option("--group", is_flag=True, help="Also the other accelerators of an IOMMU group.")
@click.option("--with", "others", multiple=True, metavar="BDF", help="Also this device of the group or card.")
@click.option("--boot-vga", is_flag=True, help="Also the display that the machine boots on.")
@click.option("--stop-services", is_flag=True, help="Stop the known services that hold them, and start them again.")
@click.option("--persist", is_flag=True, help="Bind again at every boot.")
@DEADLINE
@DRY_RUN
@click.option("-y", "--yes", is_flag=True, help="Without asking.")
@click.pass_obj
def bind(state: State, /, dry_run: bool, yes: bool, type_: str, count: int | None, **options: Any) -> None:
    """Give devices to VFIO: all or none."""
    request = DeviceRequest(type=type_, count=count or 0, **options)

    def make() -> Plan:
        return binding.plan_bind(state, read_gpu(LocalMachine(), state), request)

    if dry_run:
        click.echo("\n".join(plan_lines(make())))
        return
    if not yes:
        names = [step.title for step in make().steps if step.subjects and not step.skip]
        confirm(f"{'; '.join(names)}?", "vmtool gpu bind", names)
    plan = do(state, binding.directory(state), make, "vmtool gpu bind")
    inventory = read_inventory(LocalMachine(), state)
    if request.persist:
        warn_initramfs(inventory)
    show(plan, inventory, "vmtool gpu release")


@click.command("release")
@BDFS
@click.option("--all", "everything", is_flag=True, help="Everything that vmtool bound.")
@DEADLINE
@DRY_RUN
@click.pass_obj
def release(state: State, bdfs: tuple[str, ...], everything: bool, deadline: float, dry_run: bool) -> None:
    """Give devices back to exactly the drivers they came from. Also: unbind."""
    if not bdfs and not everything:
        raise Refused("nothing is chosen", hint="give addresses, or --all for everything that vmtool bound")

    def make() -> Plan:
        machine = LocalMachine()
        return releasing.plan_release(state, read_gpu(machine, state), bdfs, read_persisted(machine), deadline)

    if dry_run:
        click.echo("\n".join(plan_lines(make())))
        return
    plan = do(state, releasing.directory(state), make, "vmtool gpu release")
    show(plan, read_inventory(LocalMachine(), state), "vmtool gpu bind")


def do(state: State, directory: Path, make: Callable[[], Plan], doing: str) -> Plan:
    """Apply with progress. What an interrupted bind left must be undone first, or its undo would be forgotten."""
    if any(left.directory.parent == directory.parent for left in read_interrupted(state)):
        raise NotReady("an interrupted `vmtool gpu` left something behind", hint="vmtool recover")
    return apply_and_explain(state, directory, doing, make)


def confirm(question: str, command: str, names: Sequence[str]) -> None:
    """Ask on a terminal, when there is something to ask; elsewhere --yes must be there."""
    if not names:
        return
    if not sys.stdin.isatty():
        raise Refused("taking devices from their drivers needs consent", hint=f"{command} --yes ...; first look with "
                      "--dry-run")
    click.confirm(question, abort=True)


def show(plan: Plan, inventory: Inventory, next_: str) -> None:
    """The new state of the devices that the plan was about, and what comes next."""
    machine = LocalMachine()
    subjects = {bdf for step in plan.steps for bdf in step.subjects}
    names, persisted = PciNames(machine), read_persisted(machine)
    devices = [device for device in inventory.devices if device.bdf in subjects]
    if devices:
        print_table(HEAD, [cells(row(inventory, names, device, persisted)) for device in devices])
        click.echo(f"next: {next_} {' '.join(device.bdf for device in devices)}", err=True)


def warn_initramfs(inventory: Inventory) -> None:
    """Say when the initramfs would be quicker than the unit."""
    machine = LocalMachine()
    release = (machine.text("/proc/sys/kernel/osrelease") or "").strip()
    found = initramfs_drivers(machine, release, [record.driver for record in inventory.records.values()])
    if found is None:
        click.secho("not checked: whether the initramfs brings a driver that binds earlier", fg="yellow", err=True)
    elif found:
        click.secho(f"warning: the initramfs brings {', '.join(found)}, which binds before vmtool-gpu.service; the "
                    "unit takes the devices from it then. Better leave it out and rebuild the initramfs.",
                    fg="yellow", err=True)
