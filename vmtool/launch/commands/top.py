"""`vmtool top`: what the instances and GPUs do just now."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from vmtool.cli.numbers import Number
from vmtool.cli.output import print_json, print_table, printable
from vmtool.gpu.inventory import Inventory, read_inventory
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.view import state_of
from vmtool.host.local import LocalHost
from vmtool.instance.read import read_instances
from vmtool.launch.load_facts import Load, read_loads
from vmtool.paths import State

HEAD = ("NAME", "STATE", "HEALTH", "UP", "CPU", "MEMORY", "REQUESTS", "TOKENS/S", "KV", "RESTARTS", "GPUS")
UNKNOWN = "?"
NONE = "-"


@click.command()
@click.option("--interval", type=Number(0.2, 3600), default=2.0, show_default=True,
              help="Seconds between two looks of the live table.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, as where there is no terminal.")
@click.pass_obj
def top_command(state: State, interval: float, as_json: bool) -> None:
    """Show load, health, memory and restarts of all instances, and the GPUs: live on a terminal, elsewhere one JSON
    document. What cannot be known is "?", or null."""
    before: Mapping[str, tuple[float, float]] = {}
    host = LocalHost()
    while True:
        loads = read_loads(host, read_instances(state), time.time())
        inventory = read_inventory(host, state)
        if as_json or not sys.stdout.isatty():
            print_json(instances=[dataclasses.asdict(load) for load in loads], gpus=gpus(inventory, host))
            return
        now = time.monotonic()
        click.clear()
        print_table(HEAD, [row(load, cpu_share(load, before, now)) for load in loads])
        if devices := gpus(inventory, host):
            click.echo()
            print_table(("GPU", "STATE", "DRIVER", "INSTANCE", "NAME"), [
                (gpu["bdf"], gpu["state"], gpu["driver"] or NONE, gpu["instance"] or NONE, gpu["name"])
                for gpu in devices])
        before = {load.name: (now, load.cpu) for load in loads if load.cpu is not None}
        time.sleep(interval)


def gpus(inventory: Inventory, host: LocalHost) -> list[dict[str, Any]]:
    """The accelerators, as JSON values. What one does inside a guest, only its guest knows."""
    names = PciNames(host)
    return [{"bdf": device.bdf, "state": state_of(inventory, device), "driver": device.driver or None,
             "instance": inventory.claims.get(device.bdf, "").removeprefix("instance ") or None,
             "name": printable(names.name(device, locked=inventory.is_locked(device)))}
            for device in inventory.accelerators]


def cpu_share(load: Load, before: Mapping[str, tuple[float, float]], now: float) -> str:
    """Processors that it used since the last look."""
    if load.cpu is None or load.name not in before:
        return UNKNOWN if load.uptime is not None else NONE
    since, used = before[load.name]
    return f"{max(0.0, load.cpu - used) / max(now - since, 1e-3):.1f}"


def row(load: Load, cpu: str) -> Sequence[str]:
    """A line of the table."""
    runs = load.uptime is not None or load.health is not None
    report = load.report
    requests = f"{report.running}+{report.waiting}" if report else UNKNOWN if runs else NONE
    tokens = f"{report.generation:.1f}" if report else UNKNOWN if runs else NONE
    cache = f"{report.kv_cache:.1f}%" if report else UNKNOWN if runs else NONE
    return (load.name, load.state, load.health or NONE, span(load.uptime) if runs else NONE, cpu,
            memory(load) if runs else NONE, requests, tokens, cache, str(load.restarts), str(len(load.devices) or NONE))


def span(seconds: float | None) -> str:
    """A time for a person: its two largest units."""
    if seconds is None:
        return UNKNOWN
    whole = int(seconds)
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d{hours}h"
    return f"{hours}h{minutes}m" if hours else f"{minutes}m{whole % 60}s"


def memory(load: Load) -> str:
    """Used, and the limit."""
    used = UNKNOWN if load.memory is None else f"{load.memory / (1 << 30):.1f}"
    return used if load.memory_limit is None else f"{used}/{load.memory_limit / (1 << 30):.1f}Gi"
