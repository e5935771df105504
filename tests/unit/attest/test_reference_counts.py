"""Each value that a file of reference values may have is compared: another one than is shown lets nothing pass."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.unit.attest import make_cca, make_nvidia, make_tpm
from tests.unit.attest.cases import is_accepted, needs_vectors, request, vector
from tests.unit.attest.make_snp import Changes, authorities, make
from vmtool.attest.reference import Reference
from vmtool.attest.request import Roots

PLATFORM = ec.generate_private_key(ec.SECP384R1())
OTHER = "ab" * 48
CCA_WRONG = {"rim": OTHER[:64], "rem": [OTHER[:64]] * 4, "personalization": "01", "implementation": OTHER[:64],
             "software": [OTHER[:64]]}
# What the evidence below does not show; of each section all fields, by their names.
WRONG: dict[str, dict[str, Any]] = {
    "snp": {"measurement": OTHER, "host_data": "01", "min_tcb": {"microcode": 255}, "max_vmpl": 0, "allow_smt": False,
            "product": "Milan"},
    "tdx": {"mrtd": OTHER, "rtmr0": OTHER, "rtmr1": OTHER, "rtmr2": OTHER, "rtmr3": OTHER, "mrseam": OTHER,
            "mrconfigid": "01", "mrowner": "01", "tcb_status": ["OutOfDate"], "min_evaluation": 1 << 20},
    "cca": CCA_WRONG, "virtcca": CCA_WRONG,
    "nvidia": {"count": 2, "driver": "1", "vbios": "1", "protected_pcie": False},
    "tpm": {"keys": [OTHER], "pcrs": {"sha256": {4: OTHER[:64]}}},
}
# What passes without the value: nothing is shown that a default refuses.
RIGHT: dict[str, dict[str, Any]] = {"snp": {"max_vmpl": 1}, "tpm": {"keys": [make_tpm.name(make_tpm.KEY)]}}


def shown(section: str) -> tuple[bytes, dict[str, Any]]:
    """Good evidence, and what a request for it has."""
    if section == "snp":
        report, vcek = make(Changes(report=((0x30, b"\1"),)))
        return report, {"collateral": [vcek], "roots": authorities()[2]}
    if section == "tdx":
        return vector("tdx/quote-b0c06f.bin"), {"collateral": [vector("tdx/collateral-b0c06f-2025.json")],
                                                "at": "2025-06-20T00:00:00Z"}
    return {"cca": (make_cca.Made(platform_key=PLATFORM).token(), {
                "roots": Roots({"cca-test.jwk": make_cca.jwk(PLATFORM)})}),
            "virtcca": (make_cca.Made().virtcca(), {"roots": make_cca.ROOTS}),
            "nvidia": (make_nvidia.Device().json(), {"roots": make_nvidia.ROOTS}),
            "tpm": (make_tpm.Tpm().json(), {})}[section]


@needs_vectors
@pytest.mark.parametrize("section", WRONG)
def test_each_value_is_compared(section: str) -> None:
    assert WRONG[section].keys() == Reference.model_fields[section].annotation.model_fields.keys()  # type: ignore[union-attr]
    evidence, given = shown(section)
    collateral, right = given.pop("collateral", []), RIGHT.get(section, {})

    def accepted(values: dict[str, Any]) -> bool:
        return is_accepted(evidence, request(*collateral, **given | {section: right | values}))

    assert accepted({})
    assert [name for name, value in WRONG[section].items() if accepted({name: value})] == []


def test_each_section_is_there() -> None:
    assert WRONG.keys() == Reference.model_fields.keys() - {"api_version", "kind", "launch"}
