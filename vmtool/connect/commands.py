"""`vmtool connect`: a local endpoint that verifies a server before it speaks to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.attest.options import SERVER_PACKAGES, require_packages
from vmtool.attest.server.place import Place, is_loopback
from vmtool.cli.output import print_json
from vmtool.connect.policy import Policy, read_policy
from vmtool.endpoint.client import authorization
from vmtool.errors import Interrupted, Refused, shell_word
from vmtool.host.local import LocalHost
from vmtool.launch.commands.find_server import find_server
from vmtool.paths import State
from vmtool.serving import turns

if TYPE_CHECKING:
    from vmtool.connect.verify import Trusted, Verified

FILE = click.Path(path_type=Path)
LISTEN = "127.0.0.1:8001"


@click.command()
@click.argument("server", required=False, metavar="[URL|NAME]")
@click.option("--policy", "policy_file", type=FILE, metavar="FILE", help="What the server must prove, in YAML.")
@click.option("--listen", default=LISTEN, show_default=True, metavar="ADDRESS:PORT",
              help="Where this machine's clients ask; port 0 takes a free one.")
@click.option("--expose", is_flag=True, help="Let --listen name an address that others reach: they send in clear.")
@click.option("--token-file", type=FILE, metavar="FILE",
              help="Show the key in it, in place of the clients' own: whoever reaches --listen may then ask.")
@click.option("--check", is_flag=True, help="Verify once, say what was proven, and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, once the server is verified.")
@click.option("--make-policy", "spec", type=FILE, metavar="SPEC", help="Write the policy of a launch instead.")
@click.option("-o", "--output", type=FILE, metavar="FILE", help="With --make-policy: a new file [stdout].")
@click.pass_obj
def connect_command(state: State, server: str | None, policy_file: Path | None, listen: str, expose: bool,
                    token_file: Path | None, check: bool, as_json: bool, spec: Path | None, output: Path | None
                    ) -> None:
    """Verify the endpoint at URL, or of the instance NAME, by its evidence; then be an endpoint on this machine that
    forwards to it, and to nothing else, until Ctrl-C. It is verified again and again meanwhile.

    Exit code 4 when the server does not prove what the policy requires.
    """
    if spec:
        if server or policy_file:
            raise click.UsageError("--make-policy goes with -o alone")
        make_policy(state, spec, output)
        return
    if not server or not policy_file or output:
        raise click.UsageError("name a server and its policy: vmtool connect URL --policy FILE")
    require_packages(SERVER_PACKAGES, "connect")
    policy, address = read_policy(policy_file), parse_listen(listen, expose=expose)
    place = find_server(state, server, ca=policy.ca, plain=policy.allow_unconfidential and not policy.ca)
    token = authorization(LocalHost(), token_file) if token_file else {}
    try:
        turns.run(_connect(place, policy, address, token, exposed=expose, check_only=check, as_json=as_json))
    except Interrupted:
        click.echo("stopped", err=True)


def make_policy(state: State, spec: Path, output: Path | None) -> None:
    """Write what a client shall require of the launch that a spec describes.

    Raises:
        Refused: the spec is none, or the file is there. NotReady: values are missing, each with how to get it.
    """
    from vmtool.connect.make_policy import policy_text
    from vmtool.launch.commands.attest import spec_values
    from vmtool.spec.load import read_spec
    from vmtool.tee.table import NONE

    body, host = read_spec(spec).spec, LocalHost()
    computed = spec_values(state, spec) if body.runtime.tee != NONE else None
    text = policy_text(spec, body, computed.values if computed else {}, computed.missing if computed else {})
    if output is None:
        click.echo(text, nl=False)
        return
    if host.exists(str(output)):
        raise Refused(f"{output} is there already", hint=f"rm {shell_word(output)}, once you know that nobody uses it")
    host.write(output.absolute(), text.encode(), mode=0o644)


async def _connect(place: Place, policy: Policy, address: tuple[str, int], token: dict[str, str], *, exposed: bool,
                   check_only: bool, as_json: bool) -> None:
    from vmtool.connect.proxy import Proxy
    from vmtool.connect.serve import Checker, first_key_only, run, until_stopped
    from vmtool.serving.front.limits import Limits, fitting

    check = first_key_only(Checker(place, policy, reader(policy)), place)
    if check_only:
        show(place, policy, await until_stopped(check), "", as_json)
        return
    proxy = Proxy(place, fitting(Limits()), token, exposed=exposed)
    await run(check, proxy, address, policy.max_age, lambda line: click.echo(line, err=True),
              lambda verified, port: show(place, policy, verified, _url(address[0], port), as_json))


def show(place: Place, policy: Policy, verified: Verified, listens: str, as_json: bool) -> None:
    """What was proven, and where clients ask from now on."""
    from vmtool.attest.view import appraisal_json, show_appraisals

    if as_json:
        print_json(kind="connect", server=str(place), listen=listens or None, confidential=verified.confidential,
                   evidence_kind=verified.kind, tls_key=verified.key.hex() if place.context else None,
                   max_age=policy.max_age, devices_not_checked=verified.passed_over,
                   evidence=[appraisal_json(each) for each in verified.appraisals])
        return
    show_appraisals(verified.appraisals)
    click.echo(f"{place}: {verified.title}" + (f"; TLS key sha256:{verified.key.hex()}" if place.context else ""))
    if not verified.confidential:
        vouched = "its certificate" if place.vouched else "nothing"
        click.echo(f"This server is NOT confidential: whoever runs its host reads what you send. That it is the right "
                   f"one, {vouched} says.", err=True)
    if listens:
        click.echo(f"ask {listens}/v1; Ctrl-C ends it")


def reader(policy: Policy) -> Callable[[], Trusted]:
    """Reads roots and collateral as they are at the moment: an operator brings newer ones."""
    from vmtool.attest.facts import read_files, read_roots
    from vmtool.attest.sort_collateral import sort_collateral
    from vmtool.connect.verify import Trusted

    def read() -> Trusted:
        machine = LocalHost()
        return Trusted(read_roots(machine, policy.roots), sort_collateral(read_files(machine, policy.collateral)))

    return read


def parse_listen(text: str, *, expose: bool) -> tuple[str, int]:
    """Address and port.

    Raises:
        Refused: it is none, or others reach it and that was not asked for.
    """
    host, _, port = text.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.strip("[]")))
        if not (port.isascii() and port.isdecimal() and int(port) < 65536):
            raise ValueError(port)
    except ValueError:
        raise Refused(f"--listen {text!r} is no address with a port", hint=f"such as --listen {LISTEN}") from None
    if not expose and not is_loopback(address):
        raise Refused(f"--listen {text}: others reach {address}, and would send to it in clear",
                      hint=f"--listen {LISTEN}; or --expose, when the way to it is safe")
    return address, int(port)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
