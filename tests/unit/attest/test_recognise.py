"""What a file of evidence is, and reference values for another kind of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.attest.cases import appraise, request, unproven
from tests.unit.attest.make_cca import ROOTS, Made
from tests.unit.attest.make_nvidia import ROOTS as NVIDIA_ROOTS
from tests.unit.attest.make_nvidia import Device


@pytest.mark.parametrize(("reference", "problems"), [
    ({}, []), ({"virtcca": {}}, []), ({"virtcca": {"rim": "01" * 32}}, []),
    ({"cca": {"rim": "01" * 32}}, ["no values are given for virtcca", "values are given for cca, and no evidence"]),
    ({"snp": {}}, ["no values are given for virtcca", "values are given for snp, and no evidence"]),
    ({"virtcca": {}, "nvidia": {}}, ["values are given for nvidia, and no evidence"]),
])
def test_values_for_another_kind_of_evidence_let_nothing_pass(reference: dict[str, Any], problems: list[str]) -> None:
    found = appraise(Made().virtcca(), request(roots=ROOTS, **reference))
    assert [claim.evidence for appraisal in found for claim in appraisal.claims
            if claim.id == "reference.format"] == problems
    assert bool(unproven(Made().virtcca(), request(roots=ROOTS, **reference))) == bool(problems)


def test_numbered_devices_share_a_section() -> None:
    assert unproven(Device().json(), request(roots=NVIDIA_ROOTS, nvidia={"driver": "600.1"})) == []
    assert unproven(Device().json(), request(roots=NVIDIA_ROOTS, tpm={})) == ["reference.format"] * 2
