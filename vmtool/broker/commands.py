"""`vmtool key serve`: the embedded broker."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import click

from vmtool.attest.options import require_packages
from vmtool.broker.audit import Audit
from vmtool.broker.facts import read_release
from vmtool.broker.view import show_release
from vmtool.errors import VmtoolError, system_error
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.paths import State
from vmtool.tls.authority import Authority, Pair, find_authority, make_authority
from vmtool.tls.own import own_authority


@click.command("serve")
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--listen", metavar="ADDRESS:PORT", help="In place of the configuration's.")
@click.option("--check", is_flag=True, help="Read everything that the configuration names, and end.")
@click.pass_obj
def serve_command(state: State, config: Path, listen: str | None, check: bool) -> None:
    """Release keys to guests that prove what they run in, as CONFIG says, until Ctrl-C."""
    require_packages()

    @cache
    def authority() -> Authority:
        return _look_at_authority(state, datetime.now(UTC)) if check else own_authority(state, "vmtool key serve")

    def issue(names: Sequence[str]) -> Pair:
        return authority().issue(names, datetime.now(UTC))

    release = read_release(LocalMachine(), config, listen, issue)
    if check:
        show_release(release)
        return
    from vmtool.broker.serve import serve  # aiohttp

    try:
        Audit(release.audit).note("start", "serves", address=f"{release.address[0]}:{release.address[1]}",
                                  resources=sorted(release.rules))
        serve(release, lambda text: click.echo(text, err=True))
    except ssl.SSLError as error:
        raise VmtoolError(f"{config}: tls: {error.reason or error}") from error
    except OSError as error:
        raise system_error(error, f"{release.address[0]}:{release.address[1]}") from error
    click.echo("stopped", err=True)


def _look_at_authority(state: State, now: datetime) -> Authority:
    """The CA without making one: a check changes nothing."""
    found = find_authority(LocalHost(), state.ca)
    if found is None:
        click.echo(f"vmtool's own CA is not there yet: it will be made in {state.ca}", err=True)
    return found or make_authority(now)
