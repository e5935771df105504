"""What a file of evidence is, by its content: one or several pieces, each with its own appraisal."""

from __future__ import annotations

import base64
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from vmtool.attest.appraisal import Appraisal, NotProven, attempt, describe, refused
from vmtool.attest.cursor import require
from vmtool.attest.evidence import Evidence
from vmtool.attest.foreign_json import mapping, octets, parse_json, text
from vmtool.attest.request import Request
from vmtool.tee.snp import SNP
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA

UNKNOWN = "neither a report of SEV-SNP or of NVIDIA, a quote of TDX, a token of CCA nor JSON with evidence"
# Key type and TEE type; the version is before them.
QUOTE = b"\2\0\x81\0\0\0"
SPDM = b"\x11\xe0"
TOKEN = b"\xd9\x01\x8f"


def appraise_file(data: bytes, request: Request) -> tuple[Appraisal, ...]:
    """Recognise what is in a file and check it. Whatever is not well formed is refused."""
    problems = [refused("collateral", "collateral", problem) for problem in request.collateral.problems]
    with warnings.catch_warnings():
        # Libraries warn of oddities in certificates; what counts is refused.
        warnings.simplefilter("ignore")
        try:
            pieces = tuple(recognise(data))
            require(bool(pieces), "the list of evidence is empty")
        except BaseException as error:
            return (*problems, refused("evidence", "evidence", describe(error)))
        return (*problems, *(attempt(piece.label, piece.title, partial(piece.appraise, request)) for piece in pieces))


def recognise(data: bytes) -> Iterator[Evidence]:
    """The pieces of evidence in a file.

    Raises:
        NotProven: it is of no known kind.
    """
    start = data.lstrip()[:1]
    if start in (b"{", b"["):
        yield from _from_json(parse_json(data))
        return
    if start == b"<":
        yield _rim(data)
        return
    digits = data.strip()
    if digits and len(digits) % 2 == 0 and all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        data = bytes.fromhex(digits.decode())
    yield _from_bytes(data)


def _from_bytes(data: bytes) -> Evidence:
    if data[:3] == TOKEN:
        return _cca(data)
    if data[:2] == SPDM:
        return _device(data)
    if data[2:8] == QUOTE:
        return _tdx(data)
    if 0 < int.from_bytes(data[:4], "little") < 256:
        return _snp(data)
    raise NotProven(UNKNOWN)


def _from_json(value: Any) -> Iterator[Evidence]:
    if isinstance(value, dict) and "device_evidence_list" in value:
        value = mapping(value, "the evidence", frozenset({"device_evidence_list"}))["device_evidence_list"]
    if isinstance(value, list):
        from vmtool.attest.nvidia.evidence import read_devices

        yield from read_devices(value)
    elif isinstance(value, dict) and "attestation_report" in value:
        yield _snp_json(value)
    elif isinstance(value, dict) and "token" in value:
        yield _cca(octets(mapping(value, "the evidence", frozenset({"token"}))["token"], "token"))
    elif isinstance(value, dict) and "quote" in value:
        fields = mapping(value, "the evidence", frozenset({"quote", "cc_eventlog"}))
        yield _tdx(base64.b64decode(text(fields["quote"], "quote"), validate=True))
    elif isinstance(value, dict) and "dev_cert" in value:
        yield _virtcca(value)
    else:
        raise NotProven(UNKNOWN)


def _cca(data: bytes) -> Evidence:
    from vmtool.attest.cca.claims import NAME, TITLE, appraise_cca

    return Evidence(NAME, TITLE, partial(appraise_cca, data))


def _virtcca(value: Any) -> Evidence:
    from vmtool.attest.cca.virtcca import appraise_virtcca

    return Evidence(VIRTCCA.name, VIRTCCA.title, partial(appraise_virtcca, value))


def _tdx(data: bytes) -> Evidence:
    from vmtool.attest.tdx.claims import appraise_tdx

    return Evidence(TDX.name, TDX.title, partial(appraise_tdx, data))


def _device(data: bytes) -> Evidence:
    from vmtool.attest.nvidia.claims import TITLE, Presented, appraise_device
    from vmtool.attest.nvidia.evidence import LABEL

    return Evidence(LABEL, TITLE, partial(appraise_device, LABEL, Presented(data, ())))


def _rim(data: bytes) -> Evidence:
    from vmtool.attest.nvidia.rim import NAME, TITLE, appraise_rim

    return Evidence(NAME, TITLE, partial(appraise_rim, data))


def _snp(data: bytes) -> Evidence:
    from vmtool.attest.snp.claims import appraise_snp

    return Evidence(SNP.name, SNP.title, lambda request: appraise_snp(SNP.name, data, (), request))


def _snp_json(value: Any) -> Evidence:
    from vmtool.attest.certificates import load_certificates
    from vmtool.attest.snp.claims import appraise_snp
    from vmtool.attest.snp.evidence_json import KEYS, certificates_of, rebuild_report

    def appraise(request: Request) -> Appraisal:
        document = mapping(value, "the evidence", KEYS)
        presented = [certificate for data in certificates_of(document.get("cert_chain"))
                     for certificate in load_certificates(data)]
        return appraise_snp(SNP.name, rebuild_report(document["attestation_report"]), presented, request)

    return Evidence(SNP.name, SNP.title, appraise)
