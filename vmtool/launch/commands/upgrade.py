"""`vmtool upgrade`: another image or spec for an instance, while its clients go on to be served."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import click
from pydantic import ValidationError

from vmtool.cli.apply_plan import apply_plan
from vmtool.cli.numbers import Seconds
from vmtool.cli.output import print_json
from vmtool.errors import Refused, shell_word
from vmtool.facts.recording import RecordingReader
from vmtool.host.local import LocalMachine
from vmtool.instance.instance import Instance
from vmtool.instance.promise import in_between, interrupted
from vmtool.instance.read import read_instance
from vmtool.launch.commands.damage import explained, read_known
from vmtool.launch.commands.make_plan import make_launch
from vmtool.launch.commands.plan import TIMEOUT
from vmtool.launch.commands.ps import row_json
from vmtool.launch.commands.run import note_canary, show_summary
from vmtool.launch.facts import read_launch, read_launched_spec
from vmtool.launch.plan_upgrade import plan_upgrade, typed_command
from vmtool.paths import State
from vmtool.plan import Plan, Step, plan_lines, to_json
from vmtool.proof.evidence import read_evidence
from vmtool.proof.requirements import require_request
from vmtool.spec.load import read_spec
from vmtool.spec.runtime import Spec
from vmtool.stage.launch import Launch, digest


@click.command()
@click.argument("name")
@click.option("--image", metavar="IMAGE", help="Another image.")
@click.option("--spec", "path", type=click.Path(path_type=Path), metavar="SPEC.yaml", help="Another spec.")
@click.option("--drain", type=Seconds(1), help="Seconds that the answers of the old one may take to end "
                                                     "[spec.timeouts.drain, or 300].")
@TIMEOUT
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def upgrade_command(state: State, name: str, image: str | None, path: Path | None, drain: float | None,
                    timeout: float | None, dry_run: bool, as_json: bool) -> None:
    """Launch a new one beside an instance, prove it, and let it take the place of the old one without a gap; without
    --image and --spec with the spec that it has. Whatever fails, the old one goes on."""
    typed = typed_command(name, ("--image", image), ("--spec", path), ("--drain", drain))

    def make() -> Plan:
        return make_upgrade(state, name, image, path, drain=drain, timeout=timeout, typed=typed)

    instance = read_known(LocalMachine(), state, name)
    if dry_run:
        if instance.half_upgraded:
            raise in_between(instance)
        show_plan(make(), as_json)
        return
    started, directory = time.monotonic(), instance.paths.directory
    plan = apply_plan(state, directory, f"vmtool upgrade {name}", make)
    if as_json:
        show_json(state, name, plan, time.monotonic() - started)
    else:
        show_summary(state, name, plan, time.monotonic() - started)


def make_upgrade(state: State, name: str, image: str | None, path: Path | None, *, drain: float | None,
                 timeout: float | None, typed: str) -> Plan:
    """Read the facts, and plan the upgrade; of an instance that does not run, a start."""
    machine = LocalMachine()
    instance = read_known(machine, state, name)
    if instance.damage:
        raise explained(machine, state, name, instance.damage)
    if instance.half_upgraded:
        raise interrupted(instance)
    running = read_launched_spec(instance)
    spec = wanted_spec(running, name, image, path)
    if instance.state != "running":
        return make_launch(LocalMachine(), state, spec, timeout, again="person")
    reader = RecordingReader(machine)
    launch, host = read_launch(reader, state, spec, timeout, upgrade=True)
    if (image or path) and same(launch, instance):
        return Plan(launch.owner, launch.directory, (
            Step(f"upgrade {name}", skip="it runs, with this very spec and image"),))
    plan = plan_upgrade(launch, host, instance, running, drain=drain, typed=typed)
    return replace(plan, facts=reader.recorded())


def wanted_spec(running: Spec, name: str, image: str | None, path: Path | None) -> Spec:
    """The spec of the new one.

    Raises:
        Refused: it is another instance's, or there is no such name of an image.
    """
    spec = read_spec(path) if path else running
    if spec.name != name:
        raise Refused(f"{path}: metadata.name is {spec.name}, not {name}", hint=f"vmtool run {shell_word(path or '')}")
    if not image:
        return spec
    named = spec.model_copy(update={"spec": spec.spec.model_copy(update={"image": image})})
    try:
        return Spec.model_validate_json(named.model_dump_json(by_alias=True))
    except ValidationError:
        raise Refused(f"{image!r} is not the name of an image", hint="vmtool image list") from None


def same(launch: Launch, instance: Instance) -> bool:
    """Whether the new one would be as the old one is."""
    record = instance.known()
    return digest(launch.spec) == record.digest and launch.image.digest == record.image_digest


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print the plan."""
    if as_json:
        print_json(plan=to_json(plan))
    else:
        click.echo("\n".join(plan_lines(plan)))


def show_json(state: State, name: str, plan: Plan, seconds: float) -> None:
    """One document: the instance as it is now, and what was proven."""
    instance = read_instance(state, name)
    claims = read_evidence(instance)
    if plan.changes:
        note_canary(instance.paths, claims)
    print_json(instance=row_json(instance), changed=plan.changes, seconds=round(seconds, 3),
               claims=[vars(claim) for claim in claims])
    require_request(instance.known(), claims)
