"""`vmtool net`: container networks that are made by hand, shared by instances, or used with `ctr`."""

from __future__ import annotations

import sys
from typing import Any

import click

from vmtool.cli.apply_plan import apply_plan, has_undo, is_interrupted, remove
from vmtool.cli.output import print_json, print_table
from vmtool.errors import Refused, VerificationFailed, VmtoolError
from vmtool.host.local import LocalMachine
from vmtool.net.facts import read_network
from vmtool.net.live_findings import read_findings
from vmtool.net.lost import require_gone
from vmtool.net.network import Attachment, Network
from vmtool.net.plan_add import plan_add
from vmtool.net.plan_reset import plan_reset
from vmtool.net.view import details, row, show_findings
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines
from vmtool.spec.published_port import Publish


class PublishType(click.ParamType[Publish]):
    """[IP:]HOST:CONTAINER, or PORT for the same number on both sides."""

    name = "[IP:]HOST:CONTAINER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Publish:
        try:
            return value if isinstance(value, Publish) else Publish.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.group()
def net_command() -> None:
    """Add, check, reset and remove container networks."""


@net_command.command("add")
@click.argument("name")
@click.option("--subnet", default="auto", metavar="auto|CIDR", help="Its first address is the bridge's [auto].")
@click.option("--bridge", metavar="NAME", help="Name of the bridge [vmt-NAME].")
@click.option("--publish", type=PublishType(), multiple=True, help="On 127.0.0.1 unless IP is given.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def add(state: State, name: str, subnet: str, bridge: str | None, publish: tuple[Publish, ...], dry_run: bool) -> None:
    """Make a network, and a network namespace of the same name that is attached to it."""
    directory = state.network(name)

    def make() -> Plan:
        if is_interrupted(directory):
            raise VmtoolError(f"an interrupted `vmtool net add {name}` left something behind",
                              hint=f"vmtool net del {name}")
        return plan_add(state, read_network(LocalMachine(), state), name, bridge, subnet, publish)

    if dry_run:
        click.echo("\n".join(plan_lines(make())))
    elif apply_plan(state, directory, f"vmtool net add {name}", make).changes:
        click.echo("\n".join(details(state, *read_one(state, name))))
    else:
        click.echo(f"nothing to do: the network {name} is there", err=True)


@net_command.command("show")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def show(state: State, name: str | None, as_json: bool) -> None:
    """List the networks, or tell all about one."""
    facts = read_network(LocalMachine(), state)
    if name is not None:
        network, attached = read_one(state, name)
        if as_json:
            print_json(network=row(network, attached))
        else:
            click.echo("\n".join(details(state, network, attached)))
        return
    rows = [row(network, [item for item in facts.attached if item.network == network.name]) for network in facts.ours]
    if as_json:
        print_json(networks=rows)
    elif rows:
        print_table(("NAME", "SUBNET", "BRIDGE", "OWNER", "ATTACHED", "PUBLISHED"),
                    [(item["name"], item["subnet"], item["bridge"], item["owner"] or "-",
                      ",".join(one["container_id"] for one in item["attached"]) or "-",
                      ",".join(port for one in item["attached"] for port in one["publish"]) or "-") for item in rows])
    else:
        click.echo("no networks; make one with: vmtool net add NAME", err=True)


@net_command.command("check")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def check(state: State, name: str, as_json: bool) -> None:
    """Look whether a network is whole; exit 4 when it is not."""
    network, attached = read_one(state, name)
    findings = read_findings(state, network, attached)
    show_findings(network, findings, as_json=as_json)
    if any(item.level == "fail" for item in findings):
        sys.exit(VerificationFailed.code)


@net_command.command("reset")
@click.argument("name")
@click.pass_obj
def reset(state: State, name: str) -> None:
    """Detach and attach a network's own namespace again; also repairs it after a reboot."""
    directory = state.network(name)

    def make() -> Plan:
        network, attached = read_one(state, name)
        refuse_used(network, attached, "reset")
        steps = plan_reset(state, read_network(LocalMachine(), state), network, attached)
        return Plan(f"network {name}", directory, steps)

    # A failed reset keeps the network's description, so that it can be tried again.
    apply_plan(state, directory, f"vmtool net reset {name}", make, keep=True)
    click.echo("\n".join(details(state, *read_one(state, name))))


@net_command.command("del")
@click.argument("name")
@click.pass_obj
def delete(state: State, name: str) -> None:
    """Remove a network of `net add`, and nothing of others'."""
    directory = state.network(name)
    facts = read_network(LocalMachine(), state)
    network = facts.network(name)
    if network:
        refuse_used(network, [item for item in facts.attached if item.network == name], "removed")
        if not has_undo(directory):
            raise VmtoolError(f"the journal of the network {name} is lost, so its undo is not known",
                              hint=f"vmtool net reset {name} writes it again; then delete it")
    elif not has_undo(directory):
        require_gone(state, name, f"there is no network {name!r} on record")
        if not directory.is_dir():
            raise VmtoolError(f"there is no network {name!r}", hint="vmtool net show")
    undone = f"the network {name} was undone from its journal"
    remove(state, directory, f"vmtool net del {name}",
           check=lambda problems: require_gone(state, name, undone, problems, bridge=network.bridge if network else ""))
    click.echo(f"the network {name} is removed", err=True)


def read_one(state: State, name: str) -> tuple[Network, list[Attachment]]:
    """A network and who is attached to it.

    Raises:
        VmtoolError: there is none of that name.
    """
    state.network(name)  # refuses what cannot be a name
    facts = read_network(LocalMachine(), state)
    network = facts.network(name)
    if network is None:
        raise VmtoolError(f"there is no network {name!r}", hint="vmtool net show")
    return network, [item for item in facts.attached if item.network == name]


def refuse_used(network: Network, attached: list[Attachment], what: str) -> None:
    """Refuse to touch a network that instances use or own."""
    owners = sorted({item.owner for item in attached if item.owner} | ({network.owner} - {""}))
    if owners:
        raise Refused(f"the network {network.name} cannot be {what}: it is used by {', '.join(owners)}",
                      hint=" && ".join(f"vmtool rm {owner.rpartition(' ')[2]}" for owner in owners))
