"""`vmtool attest verify`: exit codes, what is shown, and input that is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import Result

from tests.fakes.typed import typed
from tests.unit.attest.cases import FOUND, needs_vectors, vector
from vmtool.attest import options
from vmtool.attest.measure.compute import Computed
from vmtool.attest.measure.reference_text import reference_text
from vmtool.attest.reference import read_reference
from vmtool.errors import ProgramMissing, Refused, VerificationFailed, VmtoolError

pytestmark = needs_vectors
REPORT, VCEK = "snp/milan-vcek-report.bin", "snp/milan-vcek.der"
NONCE = "ec6c52d7533cc2c4f45be7849cf112ab82b2009fe7bd43e71ed08c14400ad7e2"


def verify(tmp_path: Path, *words: str | Path) -> Result:
    return typed(tmp_path / "state", "attest", "verify", *map(str, words))


def here(name: str) -> Path:
    return FOUND[0] / name


def test_the_command_proves_a_genuine_report(tmp_path: Path) -> None:
    result = verify(tmp_path, here(REPORT), "--collateral", here(VCEK), "--nonce", NONCE)
    assert result.exit_code == 0, result.output
    assert "genuine AMD SEV-SNP evidence; NOT checked: snp.revocation, " in result.stdout
    assert "snp.freshness    proven" in result.stdout


def test_a_report_is_held_against_the_reference_of_a_launch(tmp_path: Path) -> None:
    """The launch's own measurement lets it pass, another does not, and nor does a file without one."""
    measurement = vector(REPORT)[0x90:0xc0].hex()
    for value, wrong in ((measurement, None), (measurement[:-1] + "x", None), ("00" * 48, "snp.measurement"),
                         ("", "reference.format")):
        values = {"launch": {"cmdline": "quiet"}} | ({"snp": {"measurement": value}} if value else {})
        path = tmp_path / "reference.yaml"
        path.write_text(reference_text("A launch.", Computed(values, {"tdx.rtmr0": "why"})))
        result = verify(tmp_path, here(REPORT), "--collateral", here(VCEK), "--reference", path, "--json")
        if value.endswith("x"):
            assert isinstance(result.exception, Refused)
        else:
            assert json.loads(result.stdout)["unproven"] == ([wrong] if wrong else [])


def test_a_failed_claim_ends_with_4_and_a_document(tmp_path: Path) -> None:
    result = verify(tmp_path, here("snp/go-milan-report.bin"), "--collateral", here("snp/go-milan-vcek.der"), "--json")
    assert isinstance(result.exception, VerificationFailed)
    document = json.loads(result.stdout)
    assert (document["verified"], document["unproven"]) == (False, ["snp.debug"])
    [evidence] = document["evidence"]
    assert {"id": "snp.debug", "verdict": "failed", "required": True} .items() <= next(
        claim.items() for claim in evidence["claims"] if claim["id"] == "snp.debug")


def test_damaged_collateral_is_a_failed_claim(tmp_path: Path) -> None:
    (tmp_path / "vcek.der").write_bytes(vector(VCEK)[:-1])
    result = verify(tmp_path, here(REPORT), "--collateral", tmp_path / "vcek.der", "--json")
    assert isinstance(result.exception, VerificationFailed)
    assert json.loads(result.stdout)["unproven"][0] == "collateral.format"


@pytest.mark.parametrize(("text", "message"), [
    ("snp:\n  max_vmpl: 010\n", "4: snp.max_vmpl: 010 is read as a number, 8"),
    ("nvidia:\n  driver: [1_000]\n", "4: nvidia.driver.0: 1_000 is read as a number"),
    ("nvidia:\n  protected_pcie: yes\n", "4: nvidia.protected_pcie: yes is read as true or false"),
])
def test_reference_values_that_readers_of_yaml_read_differently_are_refused(tmp_path: Path, text: str, message: str
                                                                             ) -> None:
    path = tmp_path / "reference.yaml"
    path.write_text(f"apiVersion: vmtool/v1\nkind: Reference\n{text}")
    with pytest.raises(Refused) as error:
        read_reference(path)
    assert message in "\n".join(error.value.details)


def test_the_reference_file_is_strict(tmp_path: Path) -> None:
    reference = tmp_path / "reference.yaml"
    reference.write_text("apiVersion: vmtool/v1\nkind: Reference\nsnp:\n  max_vmpl: 9\n  measurment: '00'\n")
    result = verify(tmp_path, here(REPORT), "--reference", reference)
    assert isinstance(result.exception, Refused)
    assert [line.partition(": ")[0] for line in result.exception.details] == [f"{reference}:4", f"{reference}:5"]
    reference.write_text(f"snp: {{measurement: '{'00' * 48}'}}\n")
    result = verify(tmp_path, here(REPORT), "--collateral", here(VCEK), "--reference", reference)
    assert str(result.exception).endswith("not proven: snp.measurement")


@pytest.mark.parametrize(("words", "message"), [
    (("--nonce", "xy"), "--nonce: not hexadecimal"), (("--nonce", "00"), "--nonce: 1 bytes; 8 to 64"),
    (("--nonce", ""), "--nonce: 0 bytes"), (("--nonce", "00" * 65), "--nonce: 65 bytes"),
    (("--at", "yesterday"), "--at: 'yesterday' is no time"), (("--roots", "{}"), "0 files named"),
    (("--collateral", "{}/absent"), "absent: no such file"), (("--collateral", "{}"), "not a regular file"),
])
def test_input_that_is_none_is_refused(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = verify(tmp_path, here(REPORT), *(word.format(tmp_path) for word in words))
    assert isinstance(result.exception, Refused)
    assert message in str(result.exception)


def test_what_is_empty_is_no_evidence_and_no_collateral(tmp_path: Path) -> None:
    """As whatever else was cut off: its verdict is negative, whatever the file was named as."""
    (tmp_path / "empty").write_bytes(b"")
    for words in ((tmp_path / "empty",), (here(REPORT), "--collateral", tmp_path / "empty"),
                  (here(REPORT), "--collateral", here(VCEK), "--challenge", tmp_path / "empty")):
        error = verify(tmp_path, *words).exception
        assert isinstance(error, VerificationFailed), error


def test_a_pipe_is_not_waited_for_and_a_large_file_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert isinstance(verify(tmp_path, tmp_path / "pipe").exception, Refused)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    assert "larger than 8 MiB" in str(verify(tmp_path, tmp_path / "large").exception)


def test_a_library_that_is_missing_is_not_taken_for_refused_evidence(tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "PACKAGES", ("cryptography", "no_such_library"))
    error = verify(tmp_path, here(REPORT), "--collateral", here(VCEK)).exception
    assert isinstance(error, ProgramMissing)
    assert error.message == "verifying evidence needs the Python packages no_such_library"


def test_roots_that_were_changed_are_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmtool.attest import facts

    for path in facts.ROOTS.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(facts, "ROOTS", tmp_path)
    assert verify(tmp_path, here(REPORT), "--collateral", here(VCEK)).exit_code == 0
    (tmp_path / "amd-milan.pem").write_bytes(vector("snp/milan_ask_ark_asvk.pem") + b"\n")
    error = verify(tmp_path, here(REPORT)).exception
    assert isinstance(error, VmtoolError) and "amd-milan.pem" in error.message
    (tmp_path / "amd-new.pem").write_bytes(b"-")
    assert "amd-new.pem" in str(verify(tmp_path, here(REPORT)).exception)


def test_the_digests_are_those_that_the_makers_publish() -> None:
    """SHA-256 of the root certificates' DER: AMD's ARKs and Intel's SGX root as published; NVIDIA's as in nvtrust."""
    from tests.unit.attest.cases import shipped_roots
    from vmtool.attest.certificates import fingerprint

    roots = shipped_roots()
    assert {name: fingerprint(next(item for item in roots.certificates(name) if item.issuer == item.subject))[:16]
            for name in ("amd-milan", "amd-genoa", "amd-turin", "intel-sgx", "nvidia-device", "nvidia-rim")} == {
        "amd-milan": "69d063b45344d26a", "amd-genoa": "4c6598d19c18719c", "amd-turin": "1f084161a44bb6d9",
        "intel-sgx": "44a0196b2b99f889", "nvidia-device": "102bf659d5419614", "nvidia-rim": "12977b5115acb038"}
