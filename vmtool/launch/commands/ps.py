"""`vmtool ps`: quick, so it reads vmtool's own files and /proc and asks nobody."""

from __future__ import annotations

import click

from vmtool.cli.output import print_json, print_table
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_instances
from vmtool.paths import State


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def ps_command(state: State, as_json: bool) -> None:
    """List the instances."""
    instances = read_instances(state)
    if as_json:
        print_json(instances=[row_json(instance) for instance in instances])
    elif instances:
        rows = [as_row(instance) for instance in instances]
        print_table(("NAME", "STATE", "HANDLER", "CONFIDENTIAL", "MODEL", "ADDRESS"),
                    [(row["name"], row["state"], row["handler"] or "-", row["tee"] or "no", row["model"] or "-",
                      row["address"] or "-") for row in rows])
    else:
        click.echo("no instances; start one with: vmtool run SPEC.yaml", err=True)


def row_json(instance: Instance) -> dict[str, str | int | None]:
    """The same for a program, with the process that lives: also of a damaged instance."""
    return {**as_row(instance), "state": instance.state, "pid": instance.pid}


def as_row(instance: Instance) -> dict[str, str]:
    """What `ps` shows of an instance. `tee` is what was asked for; empty when it is not confidential."""
    record = instance.record
    state = f"{instance.state}, runs" if instance.pid and instance.state not in (
        "running", "starting", "upgrading") else instance.state
    if record is None:
        return {"name": instance.name, "state": state, "handler": "", "tee": "", "model": "", "address": ""}
    address = record.server.shell() if record.host else ""
    return {"name": instance.name, "state": state, "handler": record.handler,
            "tee": record.tee if record.confidential else "", "model": record.model, "address": address}
