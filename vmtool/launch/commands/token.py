"""`vmtool token`: who may ask an instance, beside whoever has its key."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import click

from vmtool.access.give import give_access, write_access
from vmtool.access.tokens import added, read_tokens, without
from vmtool.cli.apply_plan import working_host
from vmtool.cli.output import print_json, print_table
from vmtool.endpoint import client
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.host.local import LocalHost
from vmtool.instance.instance import Instance, subject_of
from vmtool.instance.read import read_instance
from vmtool.paths import State
from vmtool.plan import Plan, Step, WriteFile
from vmtool.serving.access_list import LIMITS, OF_A_KEY, AccessToken, digest_of

_LIMIT = click.IntRange(1, 999_999_999)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document.")


@click.group()
def token_command() -> None:
    """Add, list and revoke named tokens: each has limits of its own, and is in effect at once."""


@token_command.command("add")
@click.argument("name")
@click.argument("instance")
@click.option("--requests", type=_LIMIT, help="In a minute.")
@click.option("--tokens", type=_LIMIT, help="In a minute, of requests and answers together.")
@click.option("--streams", type=_LIMIT, help="Answers at once.")
@_JSON
@click.pass_obj
def add(state: State, /, name: str, instance: str, as_json: bool, **limits: int | None) -> None:
    """Let somebody ask INSTANCE. The token is printed once, and kept nowhere but as its digest."""
    secret = f"vmt-{secrets.token_hex(32)}"
    token = AccessToken(name, digest_of(secret.encode()), **{each: limits[each] or 0 for each in LIMITS},
                  added=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    found = read_instance(state, instance)
    running = change(state, found, f"vmtool token add {name} {instance}", lambda text, now: added(text, now, token))
    if as_json:
        print_json(instance=instance, name=name, token=secret, in_effect=running, **_limits(token))
    else:
        click.echo(secret)
        click.echo(f"{name} may ask {instance}" + ("" if running else ", once it runs"), err=True)


@token_command.command("revoke")
@click.argument("name")
@click.argument("instance")
@click.pass_obj
def revoke(state: State, name: str, instance: str) -> None:
    """Let a token in no longer; what it is being answered ends at once."""
    found = read_instance(state, instance)
    change(state, found, f"vmtool token revoke {name} {instance}", lambda text, now: without(text, now, name))
    click.echo(f"{name} may no longer ask {instance}", err=True)


@token_command.command("apply")
@click.argument("instance")
@click.pass_obj
def apply(state: State, instance: str) -> None:
    """Give INSTANCE its list of tokens again, after the file was edited by hand."""
    found = read_instance(state, instance)
    running = change(state, found, f"vmtool token apply {instance}", lambda text, now: text)
    click.echo("in effect" if running else f"in effect once {instance} runs", err=True)


@token_command.command("list")
@click.argument("instance")
@_JSON
@click.pass_obj
def list_tokens(state: State, instance: str, as_json: bool) -> None:
    """Show who may ask INSTANCE, with what limits, and when each did last."""
    found, host = read_instance(state, instance), LocalHost()
    _, tokens = read_tokens(host, found.paths.tokens)
    used = _used(host, found) if found.serves else {}
    rows = [_row(token, used.pop(token.digest.hex(), None)) for token in tokens]
    for left in used.values():
        token = AccessToken(left["name"], bytes.fromhex(left["digest"]), **{each: left[each] for each in LIMITS})
        rows.append(_row(token, left) | {"kept": bool(OF_A_KEY.fullmatch(token.name))})
    if as_json:
        print_json(instance=instance, tokens=rows)
        return
    print_table(("NAME", "REQUESTS/MIN", "TOKENS/MIN", "AT ONCE", "ADDED", "LAST USE", ""), [
        (row["name"], *(str(row[each] or "-") for each in LIMITS), row["added"] or "-", row["last_use"] or "-",
         _remark(row, running=found.serves)) for row in rows])


def change(state: State, instance: Instance, doing: str,
           edit: Callable[[bytes, tuple[AccessToken, ...]], bytes]) -> bool:
    """Change the file of tokens and, when the instance runs, what its front lets in; whether it runs.

    Raises:
        Refused: as `edit`, or the instance cannot be given tokens. VmtoolError: the front did not take them.
    """
    paths, record = instance.paths, instance.known()
    if instance.state == "starting":
        raise VmtoolError(f"{instance.name} is starting", hint="wait until it runs, then type the command again")
    running = instance.serves
    if running and not record.manage:
        raise Refused(f"{instance.name} was started by a vmtool that had no tokens",
                      hint=f"vmtool rm {instance.name}, then vmtool run its spec")
    text, tokens = read_tokens(LocalHost(), paths.tokens)
    keep = WriteFile(paths.tokens, edit(text, tokens).decode())
    plan = Plan(subject_of(instance.name), paths.directory, (
        Step("keep the list of tokens", (keep,)),
        Step("put together who may ask, and give it to the front",
             (write_access(paths, tls=record.tls),) if running else ())))
    with working_host(state, plan, doing) as host:
        if read_tokens(host, paths.tokens)[0] != text:
            raise NotReady("the tokens were changed at this moment", hint="type the command again")
        keep.do(host)
        try:
            if running:
                give_access(host, instance)
        except VmtoolError as error:
            raise VmtoolError(f"the file of tokens is changed, but not what {instance.name} lets in",
                              details=[error.message, *error.details],
                              hint=f"vmtool token apply {instance.name}") from error
    return running


def _used(host: LocalHost, instance: Instance) -> dict[str, Mapping[str, Any]]:
    """What the front says of each key and token, by digest."""
    record = instance.known()
    if not record.manage:
        return {}
    document = client.managed(host, client.address_of(host, record.managed), instance.paths.manager, "/access")
    return {str(each["digest"]): each for each in document["tokens"]}


def _limits(token: AccessToken) -> dict[str, int | None]:
    return {each: getattr(token, each) or None for each in LIMITS}


def _row(token: AccessToken, used: Mapping[str, Any] | None) -> dict[str, Any]:
    idle = used["idle_seconds"] if used else None
    last = None if idle is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - float(idle)))
    counted = {name: used[name] if used else None
               for name in ("in_flight", "asked", "prompt_tokens", "completion_tokens")}
    return {"name": token.name, **_limits(token), "added": token.added or None, "last_use": last,
            "in_effect": used is not None, "kept": True, **counted}


def _remark(row: Mapping[str, Any], *, running: bool) -> str:
    if not row["kept"]:
        return "not in the file, but in effect"
    return "" if row["in_effect"] or not running else "not in effect"
