"""No kind of the public evidence is left out: what each entry of its index expects is looked at by a test."""

from __future__ import annotations

import hashlib
import json

import rfc8785

from tests.unit.attest.cases import index, is_accepted, needs_vectors, request, vector
from vmtool.serving.kbs.runtime_data import canonical

pytestmark = needs_vectors
# Those of other modules: test_snp, test_tdx, test_cca, test_nvidia, and test_jwe of the broker's protocol.
ELSEWHERE = {"sev-snp", "sev-snp-chain", "trustee-evidence", "tdx", "arm-cca", "nvidia", "nvidia-hex", "rim", "kbs"}
HERE = {"known-answer", "ear"}


def test_no_kind_is_left_out() -> None:
    assert {entry["kind"] for entry in json.loads(vector("index.json"))["vectors"]} == ELSEWHERE | HERE


def test_what_evidence_vouches_for_is_hashed_as_others_do() -> None:
    [entry] = index("known-answer")
    for text in (canonical(entry["input"]), rfc8785.dumps(entry["input"])):
        assert hashlib.sha384(text).hexdigest() == entry["sha384_of_jcs"]


def test_a_result_of_somebody_elses_verification_is_no_evidence() -> None:
    [entry] = index("ear")
    assert json.loads(vector(entry["file"]))["submods"]["cpu0"]["ear.status"] == "contraindicated"
    assert not is_accepted(vector(entry["file"]), request())
