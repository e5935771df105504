"""`vmtool kata`: render a configuration, check one, show which file a shim reads and which keys it knows."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.cli.output import print_json
from vmtool.errors import NotReady, Refused, VerificationFailed, shell_word
from vmtool.findings import failing, lines, refuse
from vmtool.kata.view import rendering_json, show_diff, show_findings, show_keys, show_which
from vmtool.paths import State
from vmtool.spec.kata_releases import NAMES, release_of
from vmtool.tee.table import TEE_NAMES

if TYPE_CHECKING:
    from vmtool.spec.runtime import Spec

JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")
VERSIONS = f"One of {', '.join(NAMES)}"
KINDS = ("configuration", "handler", "runtimeclass", "udev", "cni")


@click.group()
def kata_command() -> None:
    """Render, check and explain Kata's configuration."""


@kata_command.command("render")
@click.argument("spec", type=click.Path(path_type=Path), metavar="SPEC.yaml")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE", help="Write it there, not to stdout.")
@click.option("--install", is_flag=True, help="Write it where the shim looks first; the old file is kept next to it.")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="What to render.")
@click.option("--diff", is_flag=True, help="Show what is changed in the shipped configuration, and why.")
@click.option("--drop-in", is_flag=True, help="Only the changes, as a file for config.d next to the shipped one.")
@JSON
@click.pass_obj
def render(state: State, spec: Path, output: Path | None, install: bool, kind: str, diff: bool, drop_in: bool,
           as_json: bool) -> None:
    """Render what a spec amounts to: the release's own configuration with changes, each with its reason."""
    from vmtool.host.local import LocalMachine
    from vmtool.kata.render import render as render_request
    from vmtool.kata.render import render_drop_in, render_kind
    from vmtool.kata.request_facts import read_request
    from vmtool.spec.load import read_spec

    _check_options(install, output, kind, diff or drop_in or as_json, (diff, drop_in, as_json).count(True))
    wanted = read_spec(spec)
    found = read_request(LocalMachine(), wanted.spec)
    if reasons := found.check_request() + (found.check_host() if install else ()):
        refuse(reasons, f"{spec} gives no configuration of Kata")
    for line in () if install else lines(found.check_host()):
        click.secho(f"on this host: {line}", fg="yellow", err=True)
    if kind != KINDS[0]:
        text = _network(state, wanted) if kind == "cni" else render_kind(kind, found.request)
        return _hand_out(text, output)
    made = render_request(found.request)
    show_findings(made.findings, err=True)
    if as_json:
        return print_json(kind="kata-render", release=found.request.release.title, **rendering_json(made))
    if diff:
        return show_diff(made)
    if install:
        from vmtool.kata.install import install_configuration

        return _written(install_configuration(found.target, made.text), found.request.release.asked)
    _hand_out(render_drop_in(made) if drop_in else made.text, output, "" if drop_in else found.request.release.asked)


def _check_options(install: bool, output: Path | None, kind: str, other: bool, count: int) -> None:
    if install and (output or kind != KINDS[0] or other):
        raise Refused("--install is for the configuration, and goes without -o, --diff, --drop-in and --json",
                      hint="choose one of them")
    if other and (kind != KINDS[0] or count > 1):
        raise Refused("--diff, --drop-in and --json are for the configuration, one at a time",
                      hint="choose one of them")


def _hand_out(text: str, output: Path | None, version: str = "") -> None:
    from vmtool.host.files import write_output

    if output is None:
        click.echo(text, nl=False)
    else:
        _written(write_output(output, text), version)


def _written(path: Path, version: str) -> None:
    """`version` is of the release whose whole configuration it is."""
    following = f"; next: vmtool kata check {shell_word(path)} --kata-version {version}" if version else ""
    click.echo(f"written: {path}{following}", err=True)


def _network(state: State, spec: Spec) -> str:
    from vmtool.host.local import LocalMachine
    from vmtool.net.facts import read_network
    from vmtool.net.launch_network import render_network

    return render_network(state, spec, read_network(LocalMachine(), state))


@kata_command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--kata-version", "version", metavar="V", help=f"{VERSIONS} [the shim's].")
@click.option("--tee", type=click.Choice(TEE_NAMES), help="What it shall make [what the file says].")
@click.option("--gpus", type=click.IntRange(min=0), help="How many it shall pass on.")
@JSON
def check(file: Path | None, version: str | None, tee: str | None, gpus: int | None, as_json: bool) -> None:
    """Lint FILE, or the file that the shim of this host reads, drop-ins merged. Exit 4 when there is an error."""
    from vmtool.host.local import LocalMachine
    from vmtool.kata.checked import checked_json, checked_line, not_checked
    from vmtool.kata.document import read
    from vmtool.kata.lint.lint import lint
    from vmtool.kata.lint.target import LintTarget
    from vmtool.kata.lint_target import choose_checked

    chosen = choose_checked(LocalMachine(), str(file) if file else None, release_of(version) if version else None)
    release = chosen.release
    document = read(Path(chosen.file), [Path(path) for path in chosen.drop_ins], release.toml, release.keys)
    target = LintTarget(document, release, tee, gpus, chosen.host)
    findings = lint(target)
    if chosen.guessed:
        click.echo(f"no shim here reports its version; taken for Kata {release.name}", err=True)
    if as_json:
        print_json(kind="kata-check", drop_ins=chosen.drop_ins, **checked_json(chosen.file, target, findings))
    else:
        click.echo(checked_line(chosen.file, target)
                   + (f", with {', '.join(chosen.drop_ins)}" if chosen.drop_ins else ""))
        show_findings(findings)
        if missed := not_checked(target):
            click.echo(f"not checked: {missed}")
    if failing(findings):
        sys.exit(VerificationFailed.code)


@kata_command.command("which")
@JSON
def which(as_json: bool) -> None:
    """Show which file each shim will really read, and where `kata-runtime check` reads another."""
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
@click.option("--kata-version", "version", metavar="V", help=f"{VERSIONS} [all].")
@JSON
def keys(pattern: str, version: str | None, as_json: bool) -> None:
    """List keys with type, releases and default; PATTERN is a part of section.key, or has * in it."""
    from fnmatch import fnmatchcase

    from vmtool.kata.keys import read_keys

    wanted = pattern if "*" in pattern else f"*{pattern}*"
    name = release_of(version).name if version else None
    found = [key for key in read_keys() if fnmatchcase(f"{key.section}.{key.name}", wanted)
             and (name is None or name in key.known)]
    if as_json:
        print_json(kind="kata-keys", keys=[dataclasses.asdict(key) for key in found])
    elif found:
        show_keys(found)
    else:
        raise Refused(f"no key of Kata {version or 'in any release'} fits {pattern!r}", hint="vmtool kata keys")
