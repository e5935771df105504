"""What a file of evidence is, and reference values for another kind of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.attest.cases import appraise, request, unproven
from tests.unit.attest.make_cca import ROOTS, Made
from tests.unit.attest.make_nvidia import DRIVER_RIM, Device
from tests.unit.attest.make_nvidia import ROOTS as NVIDIA_ROOTS


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


def test_a_manifest_is_no_evidence_of_a_device() -> None:
    """It is genuine by itself, and anybody has it: it answers no nonce, and shows no value that a device must show."""
    assert unproven(DRIVER_RIM, request(roots=NVIDIA_ROOTS)) == []
    assert unproven(DRIVER_RIM, request(roots=NVIDIA_ROOTS, nonce=bytes(32))) == ["nonce.format"]
    for expected in ({}, {"driver": "600.1"}, {"protected_pcie": True}):
        assert unproven(DRIVER_RIM, request(roots=NVIDIA_ROOTS, nvidia=expected)) == ["reference.format"]


@pytest.mark.parametrize("around", [" {}", "{}\n", "{} "])
def test_nothing_is_around_a_devices_nonce(around: str) -> None:
    made = Device(more={"nonce": Device().nonce.hex()})
    assert unproven(made.json(), request(roots=NVIDIA_ROOTS)) == []
    odd = Device(more={"nonce": around.format(Device().nonce.hex())})
    assert unproven(odd.json(), request(roots=NVIDIA_ROOTS)) == ["evidence.format"]
