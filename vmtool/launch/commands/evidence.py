"""`vmtool attest evidence`: ask a server for evidence of what it runs in, and keep its answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vmtool.attest.options import SERVER_PACKAGES, parse_server_nonce, require_packages
from vmtool.cli.output import print_json, printable
from vmtool.cli.streams import harmless
from vmtool.errors import VerificationFailed, shell_word
from vmtool.host.files import write_output
from vmtool.paths import State
from vmtool.tee.tdx import TDX

if TYPE_CHECKING:
    from vmtool.attest.server.answer import ServerEvidence
    from vmtool.attest.server.place import Place

STDOUT = Path("-")


@click.command("evidence")
@click.argument("server", metavar="URL|NAME")
@click.option("-o", "output", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", default=STDOUT,
              help="Write the answer there [stdout].")
@click.option("--nonce", metavar="HEX", help="The evidence is asked for over these 32 bytes [new random ones].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document, with -o FILE.")
@click.pass_obj
def evidence(state: State, server: str, output: Path, nonce: str | None, as_json: bool) -> None:
    """Ask the endpoint at URL, or of the instance NAME, for evidence over a new nonce and the key of its TLS
    connection, and keep its answer as it is. Nothing is verified by this: the command that does is shown.

    Exit code 4 when the server has no evidence of a TEE; its answer is written all the same.
    """
    if as_json and output == STDOUT:
        raise click.UsageError("--json needs -o FILE: the answer itself goes to stdout otherwise")
    require_packages(SERVER_PACKAGES, "connect")
    given = parse_server_nonce(nonce)
    import asyncio  # the other commands of `vmtool attest` speak to nobody

    from vmtool.launch.commands.find_server import find_server

    place = find_server(state, server, plain=True)
    data, answer = asyncio.run(_ask(place, given))
    if output == STDOUT:
        click.echo(harmless(data) if sys.stdout.isatty() else data.encode(), nl=False)
    else:
        write_output(output, data)
    _show(place, answer, output, as_json)
    if not answer.evidence:
        raise VerificationFailed(f"{server} is NOT CONFIDENTIAL: it runs in no TEE, and has no evidence",
                                 hint="a launch gets a TEE by its spec: vmtool spec explain spec.runtime.tee")
    if not _of_tee(answer):
        click.echo("This server is NOT CONFIDENTIAL: a TPM shows what was booted, and keeps no memory from its host.",
                   err=True)


async def _ask(place: Place, nonce: bytes | None) -> tuple[str, ServerEvidence]:
    """The document as it came, and what it says; one that is not to our nonce and of this key is none.

    Raises:
        Unreachable: it is not there. NotVerified: what comes is no such evidence.
    """
    from vmtool.attest.server.answer import answered
    from vmtool.attest.server.fetch import fetch

    found = await fetch(place, nonce)
    answer = answered(found.data, found.nonce, found.key)
    return found.data.decode(), answer


def _of_tee(answer: ServerEvidence) -> bool:
    from vmtool.attest.reference import TEES

    return answer.kind in TEES


def _show(place: Place, answer: ServerEvidence, output: Path, as_json: bool) -> None:
    """What it is, and how it is verified."""
    check = f"vmtool attest verify {shell_word(output) if output != STDOUT else 'FILE'} --nonce {answer.nonce.hex()}"
    values: dict[str, Any] = {
        "server": str(place), "evidence_kind": answer.kind, "nonce": answer.nonce.hex(),
        "tls_key": answer.key.hex() if place.context else None, "note": answer.note, "of_tee": _of_tee(answer),
        "devices": len(answer.devices),
        "verify": check if answer.evidence else None}
    if as_json:
        print_json(kind="attest-evidence", file=str(output), **values)
        return
    aside = output == STDOUT
    click.echo(f"{place}: evidence of kind {printable(answer.kind)}, not verified yet", err=aside)
    click.echo(f"nonce: {values['nonce']}", err=aside)
    click.echo(f"TLS key: {'sha256:' + values['tls_key'] if place.context else 'none, it speaks no TLS'}", err=aside)
    if answer.devices:
        click.echo(f"GPUs with evidence of their own: {len(answer.devices)}", err=aside)
    if answer.note:
        click.echo(f"it says: {printable(answer.note)}", err=aside)
    if answer.evidence:
        click.echo(f"verify: {check}", err=aside)
        click.echo("        with --reference FILE of what it must show; else any guest of that kind passes", err=aside)
    if answer.kind == TDX.name:
        click.echo("        and --collateral FILE, Intel's for its platform; else nothing is proven", err=aside)
