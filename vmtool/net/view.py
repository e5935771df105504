"""How `vmtool net` shows a network: rows, details, findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from vmtool.cli.output import print_json, print_table
from vmtool.findings import Finding
from vmtool.host.local import LocalMachine
from vmtool.net.attachment_facts import read_inside
from vmtool.net.network import Attachment, Network, netns_path
from vmtool.net.plan import conflist_path
from vmtool.paths import State


def row(network: Network, attached: Sequence[Attachment]) -> dict[str, Any]:
    """A network as a JSON value."""
    machine = LocalMachine()
    found = [(item, read_inside(machine, item).result) for item in attached]
    return {**asdict(network), "gateway": network.gateway, "attached": [
        {"container_id": item.container_id, "owner": item.owner, "netns": str(netns_path(item.netns)),
         "address": result.ip if result else "", "publish": [str(port) for port in item.publish]}
        for item, result in found]}


def details(state: State, network: Network, attached: Sequence[Attachment]) -> list[str]:
    """All about a network, and how to use it by hand."""
    values = row(network, attached)
    lines = [f"network   {network.name}" + (f" of {network.owner}" if network.owner else ""),
             f"subnet    {network.subnet}, gateway {network.gateway} on bridge {network.bridge}",
             f"conflist  {conflist_path(state, network.name)}"]
    for item in values["attached"]:
        lines.append(f"attached  {item['container_id']}: {item['address'] or 'no address'} in {item['netns']}"
                     + (f", for {item['owner']}" if item["owner"] else ""))
        lines += [f"published {port}" for port in item["publish"]]
        if not item["owner"]:
            lines.append(f"use it    ctr run --with-ns network:{item['netns']} IMAGE ID")
    return lines


def show_findings(network: Network, findings: Sequence[Finding], *, as_json: bool) -> None:
    """A table, or one JSON document."""
    if as_json:
        print_json(network=network.name, findings=[item.as_json() for item in findings])
        return
    print_table(("LEVEL", "FINDING", "DETAIL"), [(item.level, item.title, item.detail) for item in findings])
    for hint in dict.fromkeys(item.hint for item in findings if item.level == "fail"):
        click.echo(f"hint: {hint}", err=True)
