"""What a file of evidence is, by its content: one or several pieces, each with its own appraisal."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from vmtool.attest import openers
from vmtool.attest.appraisal import Appraisal, NotProven, attempt, describe, refused
from vmtool.attest.cursor import require
from vmtool.attest.evidence import Evidence
from vmtool.attest.foreign_json import from_base64, mapping, octets, parse_json
from vmtool.attest.reference import Reference, sections
from vmtool.attest.request import Request
from vmtool.attest.server.answer import is_answer, open_answer, read_answer

UNKNOWN = ("neither a report of SEV-SNP or of NVIDIA, a quote of TDX, a token of CCA nor JSON with evidence, also not "
           "what vmtool attest evidence writes")
# Key type and TEE type; the version is before them.
QUOTE = b"\2\0\x81\0\0\0"
SPDM = b"\x11\xe0"
TOKEN = b"\xd9\x01\x8f"
# Labels of a device and of its maker's manifest.
DEVICE, MANIFEST = "nvidia", "rim"


class UnknownEvidence(NotProven):
    """What it is given is no evidence of a known kind."""


def appraise_file(data: bytes, request: Request) -> tuple[Appraisal, ...]:
    """Recognise what is in a file and check it. Whatever is not well formed is refused."""
    try:
        pieces = tuple(recognise(data))
        require(bool(pieces), "the list of evidence is empty")
    except BaseException as error:
        return (*_unsorted(request), refused("evidence", "evidence", describe(error)))
    return appraise_pieces(pieces, request)


def appraise_pieces(pieces: Sequence[Evidence], request: Request) -> tuple[Appraisal, ...]:
    """Check all that was presented: also that there is nothing but what the reference values are of."""
    unmatched = [refused("reference", "reference values", problem)
                 for problem in _unmatched(pieces, request.reference)]
    if request.nonce is not None and {piece.label for piece in pieces} == {MANIFEST}:
        unmatched.append(refused("nonce", "nonce", "a manifest is of no device, and over no nonce"))
    if request.challenge is not None and not any(piece.label == "tpm" for piece in pieces):
        unmatched.append(refused("challenge", "challenge", "only evidence of a TPM answers a challenge"))
    return (*_unsorted(request), *unmatched, *(appraise_piece(piece, request, pieces) for piece in pieces))


def appraise_piece(piece: Evidence, request: Request, beside: Sequence[Evidence]) -> Appraisal:
    """Check one piece; the collateral is for all that was presented, `beside` it."""
    def build() -> Appraisal:
        return piece.appraise(_for_kind(piece, request, beside))

    with warnings.catch_warnings():
        # Libraries warn of oddities in certificates; what counts is refused.
        warnings.simplefilter("ignore")
        return replace(attempt(piece.label, piece.title, build), title=piece.title)


def _for_kind(piece: Evidence, request: Request, beside: Sequence[Evidence]) -> Request:
    """With the revocation lists of other kinds, which share the collateral, left out."""
    if not request.collateral.crls:
        return request
    from vmtool.attest.shared_lists import leave_out_foreign  # needs cryptography

    kinds = {*map(_kind, beside), *request.beside}
    return leave_out_foreign(request, _kind(piece), kinds, [item for each in beside for item in each.certificates])


def _kind(piece: Evidence) -> str:
    """Devices are numbered, and a manifest is of their maker."""
    kind = piece.label.rstrip("0123456789")
    return DEVICE if kind == MANIFEST else kind


def _unsorted(request: Request) -> list[Appraisal]:
    return [refused("collateral", "collateral", problem) for problem in request.collateral.problems]


def _unmatched(pieces: Sequence[Evidence], reference: Reference) -> Iterator[str]:
    """Values for one kind of evidence say nothing of another: else genuine evidence of any other kind would pass."""
    expected = sections(reference)
    # Devices are numbered. A manifest is of their maker, and shows none of them.
    shown = {piece.label.rstrip("0123456789") for piece in pieces} - {MANIFEST}
    kinds = shown | ({DEVICE} if any(piece.label == MANIFEST for piece in pieces) else set())
    # One that says what was launched, and has no value of it, lets nothing pass.
    if expected or "launch" in reference.model_fields_set:
        yield from (f"no values are given for {kind}" for kind in sorted(kinds - expected))
        yield from (f"values are given for {kind}, and no evidence" for kind in sorted(expected - shown))
    gpus, count = sum(piece.is_gpu for piece in pieces), reference.nvidia.count
    if count is not None and gpus != count:
        yield f"{gpus} GPUs are shown, nvidia.count is {count}"
    elif DEVICE in expected & shown and not gpus:
        yield f"values are given for {DEVICE}, and no GPU is shown: only switches"


def recognise(data: bytes) -> Iterator[Evidence]:
    """The pieces of evidence in a file; also in what a server answered when it was asked for evidence.

    Raises:
        UnknownEvidence: it is of no known kind.
    """
    if data.lstrip()[:1] == b"{" and is_answer(value := parse_json(data)):
        yield from open_answer(read_answer(value), recognise_alone)
    else:
        yield from recognise_alone(data)


def recognise_alone(data: bytes) -> Iterator[Evidence]:
    """The pieces of evidence in a file as devices and agents write them.

    Raises:
        UnknownEvidence: it is of no known kind.
    """
    if not data:
        raise UnknownEvidence("it is empty")
    start = data.lstrip()[:1]
    if start in (b"{", b"["):
        yield from _from_json(parse_json(data))
        return
    if start == b"<":
        yield openers.open_rim(data)
        return
    digits = data.strip()
    if digits and len(digits) % 2 == 0 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        data = bytes.fromhex(digits.decode())
    yield _from_bytes(data)


def _from_bytes(data: bytes) -> Evidence:
    if data[:3] == TOKEN:
        return openers.open_cca(data)
    if data[:2] == SPDM:
        return openers.open_device(data)
    if data[2:8] == QUOTE:
        return openers.open_tdx(data)
    if 0 < int.from_bytes(data[:4], "little") < 256:
        return openers.open_snp(data)
    raise UnknownEvidence(UNKNOWN)


def _from_json(value: Any) -> Iterator[Evidence]:
    if isinstance(value, dict) and "device_evidence_list" in value:
        value = mapping(value, "the evidence", frozenset({"device_evidence_list"}))["device_evidence_list"]
    if isinstance(value, list):
        from vmtool.attest.nvidia.evidence import read_devices

        yield from read_devices(value)
    elif isinstance(value, dict) and "attestation_report" in value:
        yield openers.open_snp_json(value)
    elif isinstance(value, dict) and "token" in value:
        yield openers.open_cca(octets(mapping(value, "the evidence", frozenset({"token"}))["token"], "token"))
    elif isinstance(value, dict) and "ak_public" in value:
        yield openers.open_tpm(value)
    elif isinstance(value, dict) and "quote" in value:
        fields = mapping(value, "the evidence", frozenset({"quote", "cc_eventlog"}))
        require(fields["quote"] is not None, "the quote is missing")
        yield openers.open_tdx(*(from_base64(fields[name], name) for name in ("quote", "cc_eventlog")
                                 if fields.get(name) is not None))
    elif isinstance(value, dict) and "dev_cert" in value:
        yield openers.open_virtcca(value)
    else:
        raise UnknownEvidence(UNKNOWN)
