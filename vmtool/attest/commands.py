"""`vmtool attest`: verify evidence of what a guest runs in, offline."""

from __future__ import annotations

import importlib.util
from datetime import UTC, datetime
from pathlib import Path

import click

from vmtool.cli.output import print_json
from vmtool.errors import ProgramMissing, Refused, VerificationFailed
from vmtool.host.local import LocalMachine

FILE = click.Path(path_type=Path)
# Of the extra `attest` in setup.cfg.
PACKAGES = ("cryptography", "dcap_qvl", "lxml", "signxml")
LEAST_NONCE, MOST_NONCE = 8, 64


@click.group()
def attest_command() -> None:
    """Verify evidence of what a guest runs in, offline."""


@attest_command.command("verify")
@click.argument("file", type=FILE)
@click.option("--nonce", metavar="HEX", help="The evidence must have it: 8 to 64 bytes.")
@click.option("--reference", "reference_file", type=FILE, metavar="FILE", help="Values that it must show, in YAML.")
@click.option("--roots", type=FILE, metavar="DIR", help="Trust what is in there [what comes with vmtool].")
@click.option("--collateral", type=FILE, metavar="FILE", multiple=True,
              help="Certificates, revocation lists, Intel's collateral, NVIDIA's RIMs; may be repeated.")
@click.option("--at", metavar="TIME", help="Certificates must be valid then, such as 2026-01-31T12:00:00Z [now].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify(file: Path, nonce: str | None, reference_file: Path | None, roots: Path | None,
           collateral: tuple[Path, ...], at: str | None, as_json: bool) -> None:
    """Check the evidence in FILE. Exit code 4 unless everything that is required is proven."""
    require_packages()
    from vmtool.attest.facts import read_file, read_files, read_roots
    from vmtool.attest.recognise import appraise_file
    from vmtool.attest.reference import NO_REFERENCE, read_reference
    from vmtool.attest.request import Request
    from vmtool.attest.sort_collateral import sort_collateral
    from vmtool.attest.view import appraisal_json, show_appraisals

    machine = LocalMachine()
    request = Request(read_roots(machine, roots), parse_time(at), sort_collateral(read_files(machine, collateral)),
                      read_reference(reference_file) if reference_file else NO_REFERENCE, parse_nonce(nonce))
    appraisals = appraise_file(read_file(machine, file), request)
    unproven = [name for appraisal in appraisals for name in appraisal.unproven]
    if as_json:
        print_json(kind="attest-verify", file=str(file), at=request.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                   verified=all(appraisal.verified for appraisal in appraisals), unproven=unproven,
                   evidence=[appraisal_json(appraisal) for appraisal in appraisals])
    else:
        show_appraisals(appraisals)
    if not all(appraisal.verified for appraisal in appraisals):
        raise VerificationFailed(f"{file}: not proven: {', '.join(unproven)}")


def require_packages() -> None:
    """A verifier without its library would look like evidence that is refused.

    Raises:
        ProgramMissing: a library is not installed.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ProgramMissing(f"verifying evidence needs the Python packages {', '.join(missing)}",
                             hint="pip install 'vmtool[attest]'")


def parse_nonce(text: str | None) -> bytes | None:
    """The nonce that --nonce names.

    Raises:
        Refused: it is none.
    """
    if text is None:
        return None
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise Refused(f"--nonce: not hexadecimal: {error}") from None
    if not LEAST_NONCE <= len(nonce) <= MOST_NONCE:
        raise Refused(f"--nonce: {len(nonce)} bytes; {LEAST_NONCE} to {MOST_NONCE} are needed")
    return nonce


def parse_time(text: str | None) -> datetime:
    """The time that --at names, or now.

    Raises:
        Refused: it is none.
    """
    if text is None:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"--at: {text!r} is no time", hint="such as --at 2026-01-31T12:00:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
