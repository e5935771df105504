"""`vmtool kata`: render a configuration, check one, tell which file a shim reads and which keys it knows."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.cli.output import print_json
from vmtool.errors import NotReady, Refused, VerificationFailed
from vmtool.findings import failing, lines
from vmtool.kata.view import finding_json, show_findings, show_keys, show_which
from vmtool.paths import State
from vmtool.spec.kata_releases import NAMES, release_of
from vmtool.tee.table import TEE_NAMES

if TYPE_CHECKING:
    from vmtool.spec.runtime import Spec

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
VERSION = click.option("--kata-version", "version", metavar="V", help=f"One of {', '.join(NAMES)} [the shim's].")
KINDS = ("configuration", "handler", "runtimeclass", "udev", "cni")


@click.group()
def kata_command() -> None:
    """Render, check and explain Kata's configuration."""


@kata_command.command("render")
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yaml")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, not to stdout.")
@click.option("--install", is_flag=True, help="Write it where the shim looks first; the old file is kept beside it.")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="What to render.")
@click.pass_obj
def render(state: State, spec: Path, output: Path | None, install: bool, kind: str) -> None:
    """Render what a spec amounts to. Findings of the lint go to stderr."""
    from vmtool.host.local import LocalMachine
    from vmtool.kata.render import render_kind
    from vmtool.kata.request import survey
    from vmtool.spec.load import read_spec

    if install and (output or kind != KINDS[0]):
        raise Refused("--install is for the configuration, and goes without -o", hint="choose one of them")
    wanted = read_spec(spec)
    found = survey(LocalMachine(), wanted.spec)
    if reasons := found.check_request() + (found.check_host() if install else ()):
        raise Refused(f"{spec} gives no configuration of Kata", details=lines(reasons), hint="correct the spec")
    text, findings = (_network(state, wanted), ()) if kind == "cni" else render_kind(kind, found.asked)
    for line in () if install else lines(found.check_host()):
        click.secho(f"on this host: {line}", fg="yellow", err=True)
    show_findings(findings, err=True)
    if install or output:
        from vmtool.host.files import write_output
        from vmtool.kata.install import install_configuration

        path = write_output(output, text) if output else install_configuration(found.target, text)
        check_it = f"; next: vmtool kata check {path}" if kind == KINDS[0] else ""
        click.echo(f"written: {path}{check_it}", err=True)
    else:
        click.echo(text, nl=False)


def _network(state: State, spec: Spec) -> str:
    from vmtool.host.local import LocalMachine
    from vmtool.net.facts import read_network
    from vmtool.net.launch_network import render_network

    return render_network(state, spec, read_network(LocalMachine(), state))


@kata_command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@VERSION
@click.option("--tee", type=click.Choice(TEE_NAMES), help="What it shall make [what the file says].")
@click.option("--gpus", type=click.IntRange(min=0), help="How many it shall pass on.")
@JSON
def check(file: Path | None, version: str | None, tee: str | None, gpus: int | None, as_json: bool) -> None:
    """Lint FILE, or the file that the shim of this host reads, drop-ins merged. Exit 4 when there is an error."""
    from vmtool.host.local import LocalMachine
    from vmtool.kata.document import read
    from vmtool.kata.lint.lint import lint
    from vmtool.kata.lint.rules import Subject
    from vmtool.kata.lint_target import choose_checked

    chosen = choose_checked(LocalMachine(), str(file) if file else None, release_of(version) if version else None)
    document = read(Path(chosen.file), [Path(path) for path in chosen.drop_ins])
    findings = lint(Subject(document, chosen.release, tee, gpus, chosen.host))
    if chosen.guessed:
        click.echo(f"no shim here tells its version; taken for Kata {chosen.release.name}", err=True)
    looked = chosen.host.exists is not None
    if as_json:
        print_json(kind="kata-check", file=chosen.file, drop_ins=chosen.drop_ins, release=chosen.release.name, tee=tee,
                   files_looked_at=looked, findings=[finding_json(item) for item in findings])
    else:
        click.echo(f"{chosen.file}, checked as Kata {chosen.release.name}" + (f" for {tee}" if tee else "")
                   + (f", with {', '.join(chosen.drop_ins)}" if chosen.drop_ins else ""))
        show_findings(findings)
        if not looked:
            click.echo("not checked: whether the files that it names are there")
    if failing(findings):
        sys.exit(VerificationFailed.code)


@kata_command.command("which")
@JSON
def which(as_json: bool) -> None:
    """Tell which file each shim will really read, and where `kata-runtime check` reads another."""
    from vmtool.host.local import LocalMachine
    from vmtool.kata.facts import read_target
    from vmtool.kata.which import read_which

    machine = LocalMachine()
    readings = read_which(machine, read_target(machine).kata)
    if as_json:
        print_json(kind="kata-which", readings=[dataclasses.asdict(item) | {"differs": item.differs}
                                                for item in readings])
    elif readings:
        show_which(readings)
    else:
        raise NotReady("no Kata shim was found", hint="vmtool doctor --for kata")


@kata_command.command("keys")
@click.argument("pattern", required=False, default="")
@VERSION
@JSON
def keys(pattern: str, version: str | None, as_json: bool) -> None:
    """List keys with type, releases and default; PATTERN is a part of section.key, or has * in it."""
    from fnmatch import fnmatchcase

    from vmtool.kata.keys import read_keys

    wanted = pattern if "*" in pattern else f"*{pattern}*"
    column = release_of(version).keys if version else None
    found = [key for key in read_keys() if fnmatchcase(f"{key.section}.{key.name}", wanted)
             and (column is None or column in key.known)]
    if as_json:
        print_json(kind="kata-keys", keys=[dataclasses.asdict(key) for key in found])
    elif found:
        show_keys(found)
    else:
        raise Refused(f"no key of Kata {version or 'in any release'} fits {pattern!r}", hint="vmtool kata keys")
