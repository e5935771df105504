"""The policy of a launch: what is written is a policy that is read, and nothing is written that any guest passes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.connect.cases import policy
from vmtool.connect.make_policy import policy_text
from vmtool.errors import NotReady
from vmtool.spec.load import read_spec
from vmtool.spec.runtime import Body

SPEC = """\
apiVersion: vmtool/v1
kind: Runtime
metadata: {name: chat}
spec:
  runtime: {handler: %s}
  allow_unconfidential: %s
  model: {name: m, path: /m}
  resources: {memory: 8Gi}
  tls: {source: %s}
"""
SNP: dict[str, Any] = {"snp": {"measurement": "22" * 48, "host_data": "00" * 32}, "launch": {"kernel": "aa"}}
TPM: dict[str, Any] = {"tpm": {"pcrs": {"sha256": {4: ["aa" * 32], 11: ["bb" * 32]}}}}


def body(directory: Path, handler: str, source: str = "ca") -> Body:
    path = directory / "spec.yaml"
    path.write_text(SPEC % (handler, "false" if "tee" in handler else "true", source))
    return read_spec(path).spec


def test_the_values_of_a_tee_become_its_policy(tmp_path: Path) -> None:
    text = policy_text(Path("spec.yaml"), body(tmp_path, "kata, tee: snp"), SNP | TPM, {})
    read = policy(tmp_path, text)
    assert (read.expects, read.allow_unconfidential) == ("snp", False)
    assert read.reference.snp.measurement == (b"\x22" * 48,)
    assert read.reference.snp.host_data == bytes(32)
    assert "vmtool ca export > vmtool-ca.pem" in text


def test_gpus_of_a_launch_in_a_tee_are_counted_in_a_remark(tmp_path: Path) -> None:
    made = body(tmp_path, "kata, tee: snp")
    assert "nvidia" not in policy_text(Path("spec.yaml"), made, SNP, {})
    passed = made.resources.accelerators.model_copy(update={"count": 2})
    with_gpus = made.model_copy(update={"resources": made.resources.model_copy(update={"accelerators": passed})})
    text = policy_text(Path("spec.yaml"), with_gpus, SNP, {})
    assert "#   nvidia: {count: 2}\n" in text and not policy(tmp_path, text).expects_devices
    assert policy(tmp_path, text + "  nvidia: {count: 2}\n").expects_devices


def test_without_a_tee_it_says_so(tmp_path: Path) -> None:
    text = policy_text(Path("spec.yaml"), body(tmp_path, "runc", "none"), {}, {})
    assert policy(tmp_path, text).allow_unconfidential
    assert "without a TEE" in text and "ca:" not in text


def test_a_tpm_is_compared_and_is_no_tee(tmp_path: Path) -> None:
    read = policy(tmp_path, policy_text(Path("spec.yaml"), body(tmp_path, "runc"), TPM, {}))
    assert (read.expects, read.allow_unconfidential) == ("tpm", True)
    assert read.reference.tpm.pcrs["sha256"][4] == (b"\xaa" * 32,)


def test_what_is_missing_is_named_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(NotReady) as refused:
        policy_text(Path("spec.yaml"), body(tmp_path, "kata, tee: tdx"), {"tdx": {"mrtd": "00"}},
                    {"tdx.rtmr1": "it differs"})
    assert refused.value.details == ("tdx.rtmr1: it differs", "tdx.rtmr2: not computed")
    with pytest.raises(NotReady) as refused:
        policy_text(Path("spec.yaml"), body(tmp_path, "kata, tee: snp", "none"), SNP, {})
    assert [each.partition(":")[0] for each in refused.value.details] == ["spec.tls"]


@pytest.mark.parametrize(("source", "held"), [("ca", True), ("guest", False)])
def test_who_has_the_key_of_a_tees_endpoint_is_told(tmp_path: Path, source: str, held: bool) -> None:
    text = policy_text(Path("spec.yaml"), body(tmp_path, "kata, tee: snp", source), SNP, {})
    assert policy(tmp_path, text).expects == "snp"
    assert ("whoever runs that host can read" in text) is held
