"""From bytes or JSON to a piece of evidence; a verifier is imported when there is something for it."""

from __future__ import annotations

from functools import partial
from typing import Any

from vmtool.attest.appraisal import Appraisal
from vmtool.attest.evidence import Evidence
from vmtool.attest.foreign_json import mapping
from vmtool.attest.request import Request
from vmtool.tee.snp import SNP
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA


def open_cca(data: bytes) -> Evidence:
    from vmtool.attest.cca.claims import NAME, TITLE, appraise_cca

    return Evidence(NAME, TITLE, partial(appraise_cca, data))


def open_virtcca(value: Any) -> Evidence:
    from vmtool.attest.cca.virtcca import appraise_virtcca

    return Evidence(VIRTCCA.name, VIRTCCA.title, partial(appraise_virtcca, value))


def open_tdx(data: bytes, log: bytes = b"") -> Evidence:
    from vmtool.attest.tdx.claims import appraise_tdx

    return Evidence(TDX.name, TDX.title, partial(appraise_tdx, data, log))


def open_device(data: bytes) -> Evidence:
    from vmtool.attest.nvidia.claims import TITLE, Presented, appraise_device
    from vmtool.attest.nvidia.evidence import LABEL
    from vmtool.attest.nvidia.report import is_gpu

    return Evidence(LABEL, TITLE, partial(appraise_device, LABEL, Presented(data, ())), is_gpu(data))


def open_rim(data: bytes) -> Evidence:
    from vmtool.attest.nvidia.rim import NAME, TITLE, appraise_rim

    return Evidence(NAME, TITLE, partial(appraise_rim, data))


def open_tpm(value: Any) -> Evidence:
    from vmtool.attest.tpm.claims import LABEL, TITLE, appraise_tpm

    return Evidence(LABEL, TITLE, partial(appraise_tpm, value))


def open_snp(data: bytes) -> Evidence:
    from vmtool.attest.snp.claims import appraise_snp

    return Evidence(SNP.name, SNP.title, lambda request: appraise_snp(SNP.name, data, (), request))


def open_snp_json(value: Any) -> Evidence:
    from vmtool.attest.snp.claims import appraise_snp
    from vmtool.attest.snp.evidence_json import KEYS, certificates_of, rebuild_report

    def appraise(request: Request) -> Appraisal:
        document = mapping(value, "the evidence", KEYS)
        presented = tuple(certificates_of(document.get("cert_chain")))
        return appraise_snp(SNP.name, rebuild_report(document["attestation_report"]), presented, request)

    return Evidence(SNP.name, SNP.title, appraise)
