"""`vmtool metrics`: an instance's metrics, and what to look at them with."""

from __future__ import annotations

import click

from vmtool.cli.streams import harmless
from vmtool.endpoint import client
from vmtool.errors import Refused, VmtoolError
from vmtool.host.local import LocalHost
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_instance, read_instances
from vmtool.metrics.facts import read_metrics
from vmtool.metrics.host_text import host_lines
from vmtool.paths import State
from vmtool.rendering import render_template


@click.command()
@click.argument("name", required=False)
@click.option("--dashboard", "kind", flag_value="dashboard", help="Print a dashboard for Grafana instead.")
@click.option("--alerts", "kind", flag_value="alerts", help="Print alert rules for Prometheus instead.")
@click.pass_obj
def metrics_command(state: State, name: str | None, kind: str | None) -> None:
    """Print the metrics of an instance, or what this host knows of all, in Prometheus's text form."""
    if kind and name:
        raise Refused(f"{kind}: one for all instances", hint=f"leave {name} out")
    if kind:
        click.echo(render_template(f"metrics/{kind}"), nl=False)
        return
    host = LocalHost()
    found = [read_instance(state, name)] if name else read_instances(state)
    for line in host_lines(read_metrics(host, one) for one in found if one.record):
        click.echo(line)
    if name and found[0].state == "running":
        click.echo(harmless(_scrape(host, found[0])), nl=False)


def _scrape(host: LocalHost, instance: Instance) -> str:
    """What its front says.

    Raises:
        VmtoolError: it does not answer, or an earlier vmtool started it.
    """
    record = instance.known()
    if not record.manage:
        raise Refused(f"{instance.name} was started by a vmtool that had no metrics",
                      hint=f"vmtool rm {instance.name}, then vmtool run its spec")
    address = client.address_of(host, record.managed)
    status, text = host.request("GET", f"{address}/metrics", headers=client.authorization(host, instance.paths.manager),
                                deadline=15.0, trust=address.trust)
    if status != 200:
        raise VmtoolError(f"{address} gave no metrics: {text[:200] if not status else f'status {status}'}",
                          hint=f"vmtool status {instance.name}")
    return text
