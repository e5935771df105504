"""`vmtool ca`: vmtool's own small CA, and the certificates of endpoints."""

from __future__ import annotations

import datetime

import click
from cryptography.hazmat.primitives import hashes, serialization

from vmtool.cli.apply_plan import working_host
from vmtool.cli.output import print_json
from vmtool.errors import VmtoolError
from vmtool.host import event_log
from vmtool.host.local import LocalHost
from vmtool.instance.instance import Instance, subject_of
from vmtool.instance.read import read_instance, read_instances
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.spec.facts import read_own_spec
from vmtool.tls.own import own_authority
from vmtool.tls.plan import plan_certificate
from vmtool.tls.renew import ends, is_due, renew


@click.group()
def ca_command() -> None:
    """vmtool's own small CA, made on first use, and the certificates of endpoints."""


@ca_command.command("show")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def show(state: State, as_json: bool) -> None:
    """Show the CA, and until when each endpoint's certificate is valid."""
    found, host = own_authority(state, "vmtool ca").certificate, LocalHost()
    fingerprint = found.fingerprint(hashes.SHA256()).hex()
    shown = {one.name: f"{ends(host, one):%Y-%m-%dT%H:%M:%SZ}" for one in _with_tls(state)}
    if as_json:
        print_json(fingerprint=fingerprint, ends=f"{found.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}", instances=shown)
        return
    click.echo(f"vmtool's CA, SHA-256 {fingerprint}, until {found.not_valid_after_utc:%Y-%m-%d}")
    for name, end in shown.items():
        click.echo(f"{name}: until {end}")


@ca_command.command("export")
@click.pass_obj
def export(state: State) -> None:
    """Print the CA's certificate (PEM), for those who shall trust it."""
    found = own_authority(state, "vmtool ca").certificate
    click.echo(found.public_bytes(serialization.Encoding.PEM).decode(), nl=False)


@ca_command.command("renew")
@click.argument("names", nargs=-1)
@click.option("--force", is_flag=True, help="Also when most of its time is still to come.")
@click.pass_obj
def renew_command(state: State, names: tuple[str, ...], force: bool) -> None:
    """Renew the certificates of endpoints that run, before they end; of yours, take the file again. No connection ends.
    Made for a timer: without NAMES all that are due."""
    failed: list[str] = []
    found = [read_instance(state, name) for name in names] if names else _with_tls(state)
    if not found:
        click.echo("no instance that runs speaks TLS", err=True)
    for one in found:
        try:
            click.echo(f"{one.name}: {_renew(state, one, force)}", err=True)
        except VmtoolError as error:
            failed += [f"{one.name}: {error.message}", *error.details]
    if failed:
        raise VmtoolError("not every certificate is renewed", details=failed, hint="vmtool ca show")


def _renew(state: State, instance: Instance, force: bool) -> str:
    """What became of it, in words."""
    if instance.state != "running" or not instance.known().tls:
        raise VmtoolError("does not run" if instance.state != "running" else "speaks no TLS")
    if not force and not is_due(LocalHost(), instance, datetime.datetime.now(datetime.UTC)):
        return "not due"
    step = plan_certificate(state, read_own_spec(instance.paths.spec).spec, instance.paths)
    plan = Plan(subject_of(instance.name), instance.paths.directory, (Step("renew the certificate", step.actions),))
    with working_host(state, plan, f"vmtool ca renew {instance.name}") as host:
        renew(state, host, instance)
    until = f"{ends(LocalHost(), instance):%Y-%m-%d}"
    event_log.record(instance.paths.directory, "certificate", until=until)
    return f"renewed, until {until}"


def _with_tls(state: State) -> list[Instance]:
    """The instances that run and speak TLS."""
    return [one for one in read_instances(state) if one.state == "running" and one.record and one.record.tls]

