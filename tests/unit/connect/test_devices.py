"""GPUs beside a TEE: all that the policy requires of them, and what is said when it requires nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.nvml import FakeNvml, Gpu, gpus
from tests.fakes.snp_signer import MEASUREMENT, signer
from tests.unit.attest.make_certificates import Form, issue
from tests.unit.attest.make_nvidia import DICE, DRIVER_RIM, FIRMWARE, ROOT, ROOTS, VBIOS_RIM, Device
from tests.unit.connect.cases import HEAD, KEY, NONCE, NOW, SNP, UNCONFIDENTIAL, attested, policy
from vmtool.attest.request import Collateral, Roots
from vmtool.attest.server.errors import NotVerified
from vmtool.connect.verify import Trusted, Verified, verify
from vmtool.serving.evidence.binding import NO_KEY
from vmtool.serving.evidence.collect import document

SECOND = replace(Device(), issued=issue("GH100 other", ROOT, Form(
    authority=False, extensions=[("2.23.133.5.4.1", DICE + FIRMWARE)], serial=33)))
RIMS = Collateral(rims=(DRIVER_RIM, VBIOS_RIM))


def text(nvidia: str) -> str:
    return f"{HEAD}reference:\n  snp: {{measurement: '{MEASUREMENT.hex()}'}}\n  nvidia: {{{nvidia}}}\n"


def answer(nvml: FakeNvml, nonce: bytes = NONCE, key: bytes = KEY) -> dict[str, object]:
    return json.loads(json.dumps(document(nonce, key, attested, nvml.ask)))  # type: ignore[no-any-return]


def judge(tmp_path: Path, made: dict[str, object], nvidia: str, collateral: Collateral = RIMS, key: bytes = KEY
          ) -> Verified:
    trusted = Trusted(Roots({**ROOTS.files, "amd-turin.pem": signer().roots}), collateral)
    return verify(json.dumps(made).encode(), NONCE, key, policy(tmp_path, text(nvidia)), trusted, NOW)


def test_gpus_are_verified_beside_the_tee(tmp_path: Path) -> None:
    found = judge(tmp_path, answer(gpus(Device(), SECOND)), "count: 2, driver: '600.1'")
    assert found.title == "AMD SEV-SNP, NVIDIA device (2)"
    assert {f"nvidia{number}.{name}" for number in (0, 1) for name in ("freshness", "binding", "measurement")} <= {
        claim.id for each in found.appraisals for claim in each.claims if claim.verdict == "proven"}


@pytest.mark.parametrize(("made", "nvidia", "reason"), [
    (lambda: answer(gpus(Device())), "count: 2", "reference.format"),
    (lambda: answer(gpus(Device(), SECOND)), "count: 1", "reference.format"),
    (lambda: answer(FakeNvml()), "", "reference.format"),
    (lambda: answer(gpus(Gpu(refuses=3), SECOND)), "count: 2", "reference.format"),
    (lambda: answer(gpus(Device(), Device())), "count: 2", "a device is listed twice"),
    (lambda: answer(gpus()), "driver: '1'", "nvidia0.driver"),
    (lambda: answer(gpus(Device(measurements=((1, b"\5" * 48), (2, b"\2" * 48), (3, b"\3" * 48))))), "",
     "nvidia0.measurement"),
    (lambda: answer(gpus()) | {"devices": answer(gpus(), NONCE[::-1])["devices"]}, "", "nvidia0.binding"),
    (lambda: answer(gpus()) | {"devices": answer(gpus(), key=NO_KEY)["devices"]}, "", "nvidia0.binding"),
    (lambda: answer(gpus()) | {"devices": []}, "", "no list of them"),
    (lambda: answer(gpus()) | {"devices": {}}, "", "no list of them"),
    (lambda: answer(gpus()) | {"devices": [1]}, "", "no object"),
    (lambda: answer(gpus()) | {"version": 1}, "", "unknown keys: devices"),
    (lambda: answer(FakeNvml()) | {"version": 2}, "", "devices is missing")])
def test_a_gpu_that_is_left_out_twice_there_or_another_is_refused(tmp_path: Path, made: object, nvidia: str,
                                                                  reason: str) -> None:
    with pytest.raises(NotVerified) as refused:
        judge(tmp_path, made(), nvidia)  # type: ignore[operator]
    assert reason in refused.value.message


def test_without_manifests_a_gpu_proves_too_little(tmp_path: Path) -> None:
    with pytest.raises(NotVerified, match=r"nvidia0\.measurement") as refused:
        judge(tmp_path, answer(gpus()), "", Collateral())
    assert "no reference manifests given: --collateral RIM" in "\n".join(refused.value.details)


@pytest.mark.parametrize("wanted", [SNP, UNCONFIDENTIAL])
def test_devices_that_the_policy_does_not_name_are_said_to_be_unchecked(tmp_path: Path, wanted: str) -> None:
    trusted = Trusted(Roots({"amd-turin.pem": signer().roots}), Collateral())
    for devices in (answer(gpus())["devices"], [1]):
        made = json.dumps(answer(gpus()) | {"devices": devices}).encode()
        found = verify(made, NONCE, KEY, policy(tmp_path, wanted), trusted, NOW)
        assert found.title.endswith("; NOT checked: 1 GPUs, as the policy says nothing of them")
