"""`vmtool metrics`: an instance's metrics, and what to look at them with."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from vmtool.cli.numbers import Number
from vmtool.cli.streams import harmless
from vmtool.endpoint import client
from vmtool.errors import Refused, VmtoolError
from vmtool.host.local import LocalHost
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_instance, read_instances
from vmtool.metrics.facts import read_metrics
from vmtool.metrics.host_text import host_lines
from vmtool.metrics.push import Collector, push, read_headers
from vmtool.paths import State
from vmtool.rendering import render_template


@click.command()
@click.argument("name", required=False)
@click.option("--dashboard", "kind", flag_value="dashboard", help="Print a dashboard for Grafana instead.")
@click.option("--alerts", "kind", flag_value="alerts", help="Print alert rules for Prometheus instead.")
@click.option("--otlp", metavar="URL", help="Send them there by OTLP over HTTP instead, e.g. "
                                            "http://127.0.0.1:4318/v1/metrics; without NAME, those of every instance.")
@click.option("--every", type=Number(1, 86400), metavar="SECONDS", help="Send again and again, until ended.")
@click.option("--headers", type=click.Path(path_type=Path), metavar="FILE",
              help="Lines of `name: value` for the collector, such as its key.")
@click.option("--ca", type=click.Path(path_type=Path), metavar="FILE", help="Who must have signed its certificate.")
@click.pass_obj
def metrics_command(state: State, name: str | None, kind: str | None, otlp: str | None, every: float | None,
                    headers: Path | None, ca: Path | None) -> None:
    """Print the metrics of an instance, or what this host knows of all, in Prometheus's text form."""
    if kind and (name or otlp):
        raise Refused(f"--{kind}: one for all instances", hint="leave out the name and --otlp")
    if not otlp and (every or headers or ca):
        raise Refused("--every, --headers and --ca are for --otlp", hint="vmtool metrics --help")
    if kind:
        click.echo(render_template(f"metrics/{kind}"), nl=False)
    elif otlp:
        host = LocalHost()
        words = read_headers(host.read(headers), headers) if headers else {}
        _send(state, name, Collector(otlp, words, ca), every)
    else:
        host, found = LocalHost(), _instances(state, name)
        click.echo(_known(host, found), nl=False)
        if name and found[0].serves:
            click.echo(harmless(_scrape(host, found[0])), nl=False)


def _instances(state: State, name: str | None) -> Sequence[Instance]:
    return [read_instance(state, name)] if name else read_instances(state)


def _known(host: LocalHost, instances: Sequence[Instance]) -> str:
    """What the host knows of them."""
    return "".join(f"{line}\n" for line in host_lines(read_metrics(host, one) for one in instances if one.record))


def _send(state: State, name: str | None, collector: Collector, every: float | None) -> None:
    """Once, or until the process is ended. Then a failure is said, and the next time is another try."""
    while True:
        begun = time.monotonic()
        try:
            push(collector, dict(_everything(state, name)))
        except VmtoolError as error:
            if not every:
                raise
            click.echo(f"error: {error}", err=True)
        if not every:
            return
        time.sleep(max(0.0, begun + every - time.monotonic()))


def _everything(state: State, name: str | None) -> Iterator[tuple[str, str]]:
    """What the host knows, as "", and what the front of each that serves says; one that does not answer does not keep
    back the others, unless it was asked for."""
    host, instances = LocalHost(), _instances(state, name)
    yield "", _known(host, instances)
    for one in instances:
        try:
            if one.serves:
                yield one.name, _scrape(host, one)
        except VmtoolError as error:
            if name:
                raise
            click.echo(f"error: {error}", err=True)


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
