"""`vmtool attest`: verify evidence of what a guest runs in, offline."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.attest.appraisal import Appraisal
from vmtool.attest.options import parse_digest, parse_nonce, parse_time, require_packages
from vmtool.attest.tpm.commands import challenge
from vmtool.cli.output import print_json
from vmtool.errors import Refused, VerificationFailed
from vmtool.host.local import LocalMachine

if TYPE_CHECKING:
    from vmtool.attest.request import Request

FILE = click.Path(path_type=Path)
# The checker of bundles stands above: it makes a launch's claims again.
BUNDLES = "vmtool.launch.commands.bundle"


@click.group()
def attest_command() -> None:
    """Verify evidence of what a guest runs in, and what it must show."""


attest_command.add_command(challenge)


@attest_command.command("verify")
@click.argument("file", type=FILE)
@click.option("--nonce", metavar="HEX", help="The evidence must have it: 8 to 64 bytes.")
@click.option("--reference", "reference_file", type=FILE, metavar="FILE", help="Values that it must show, in YAML.")
@click.option("--roots", type=FILE, metavar="DIR", help="Trust what is in there [what comes with vmtool].")
@click.option("--collateral", type=FILE, metavar="FILE", multiple=True,
              help="Certificates, revocation lists, Intel's collateral, NVIDIA's RIMs; may be repeated.")
@click.option("--digest", metavar="HEX", help="Of a bundle: the root that it must have.")
@click.option("--challenge", "challenge_file", type=FILE, metavar="FILE",
              help="Of a TPM: the challenge.json that it must have answered.")
@click.option("--at", metavar="TIME", help="Certificates must be valid then, such as 2026-01-31T12:00:00Z [now].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify(file: Path, nonce: str | None, reference_file: Path | None, roots: Path | None,
           collateral: tuple[Path, ...], digest: str | None, challenge_file: Path | None, at: str | None,
           as_json: bool) -> None:
    """Check the evidence in FILE, or the bundle of a launch. Exit code 4 unless everything that is required is
    proven."""
    require_packages()
    from vmtool.attest.facts import read_file, read_files, read_roots
    from vmtool.attest.reference import NO_REFERENCE, read_reference
    from vmtool.attest.request import Request
    from vmtool.attest.sort_collateral import sort_collateral
    from vmtool.attest.view import appraisal_json, show_appraisals

    machine = LocalMachine()
    request = Request(read_roots(machine, roots), parse_time(at), sort_collateral(read_files(machine, collateral)),
                      read_reference(reference_file) if reference_file else NO_REFERENCE, parse_nonce(nonce),
                      read_file(machine, challenge_file) if challenge_file else None)
    appraisals = _appraise(machine, file, request, parse_digest(digest))
    unproven = [name for appraisal in appraisals for name in appraisal.unproven]
    if as_json:
        print_json(kind="attest-verify", file=str(file), at=request.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                   verified=all(appraisal.verified for appraisal in appraisals), unproven=unproven,
                   evidence=[appraisal_json(appraisal) for appraisal in appraisals])
    else:
        show_appraisals(appraisals)
    if not all(appraisal.verified for appraisal in appraisals):
        raise VerificationFailed(f"{file}: not proven: {', '.join(unproven)}")


def _appraise(machine: LocalMachine, file: Path, request: Request, digest: str | None) -> tuple[Appraisal, ...]:
    from vmtool.attest.bundle_form import is_bundle
    from vmtool.attest.facts import read_evidence
    from vmtool.attest.recognise import appraise_file

    data = read_evidence(machine, file)
    if is_bundle(data):
        found: tuple[Appraisal, ...] = importlib.import_module(BUNDLES).appraise(data, request, digest)
        return found
    if digest:
        raise Refused(f"--digest: {file} is no bundle")
    return appraise_file(data, request)
