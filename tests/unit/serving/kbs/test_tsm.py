"""Evidence of the kernel's TSM reports, on a directory that reacts as configfs does."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.attest.cases import is_accepted, needs_vectors, request, vector
from tests.unit.attest.make_snp import authorities, make
from vmtool.attest.snp.evidence_json import rebuild_report
from vmtool.serving.kbs import tsm
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.snp_json import CERTIFICATES, snp_evidence
from vmtool.serving.kbs.tsm import TsmReports

GENUINE = ("snp/genoa-v3-report.bin", "snp/milan-vcek-report.bin", "snp/milan-vlek-report.bin",
           "snp/dstack-milan-v3-report.bin")


class Kernel(TsmReports):
    """A guest's kernel: each write of a request counts up the generation."""

    @contextmanager
    def _report(self) -> Iterator[Path]:
        report = self.directory / "r"
        report.mkdir(exist_ok=True)
        yield report


def kernel(directory: Path, provider: str, blob: bytes, aux: bytes | None = None) -> Kernel:
    report = directory / "r"
    report.mkdir()
    (report / "provider").write_text(f"{provider}\n")
    (report / "generation").write_text("4\n")
    (report / "outblob").write_bytes(blob)
    if aux is not None:
        (report / "auxblob").write_bytes(aux)
    return Kernel(directory)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The generations that are read one after the other."""
    numbers = [4, 5]
    real = tsm._text
    monkeypatch.setattr(tsm, "_text", lambda path: str(numbers.pop(0)) if path.name == "generation" else real(path))
    return numbers


def table(*certificates: tuple[str, bytes]) -> bytes:
    """The host's table of certificates."""
    kinds = {kind: name for name, kind in CERTIFICATES.items()}
    start, head, body = 24 * (len(certificates) + 1), b"", b""
    for kind, data in certificates:
        head += kinds[kind] + (start + len(body)).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        body += data
    return head + bytes(24) + body


def test_a_report_with_its_certificate_is_verified(tmp_path: Path, counted: list[int]) -> None:
    report, vcek = make()
    found = kernel(tmp_path, "sev_guest", report, table(("VCEK", vcek)))
    assert found.tee() == "snp"
    evidence = found.evidence(b"\x11" * 48)
    assert (tmp_path / "r" / "inblob").read_bytes() == b"\x11" * 48 + bytes(16)
    assert is_accepted(json.dumps(evidence).encode(), request(roots=authorities()[2], nonce=b"\x11" * 64))


def test_somebody_elses_request_in_between_is_noticed(tmp_path: Path, counted: list[int]) -> None:
    counted[1] = 6
    with pytest.raises(KeyNotReleased, match="somebody else"):
        kernel(tmp_path, "sev_guest", make()[0]).evidence(bytes(48))


@pytest.mark.parametrize(("provider", "tee", "blob", "form"), [
    ("tdx_guest", "tdx", b"quote", {"cc_eventlog": None, "quote": "cXVvdGU="}),
    ("arm_cca_guest", "cca", b"\1\2", {"token": [1, 2]})])
def test_other_tees(tmp_path: Path, counted: list[int], provider: str, tee: str, blob: bytes, form: object) -> None:
    found = kernel(tmp_path, provider, blob)
    assert found.tee() == tee and found.evidence(bytes(48)) == form


def test_a_kernel_without_a_tee_has_none(tmp_path: Path) -> None:
    assert TsmReports(tmp_path / "absent").tee() == "" and kernel(tmp_path, "new_guest", b"").tee() == ""
    with pytest.raises(KeyNotReleased, match="evidence"):
        TsmReports(tmp_path / "absent").evidence(bytes(48))


@needs_vectors
@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_report_is_the_same_again(name: str) -> None:
    report = vector(name)
    assert rebuild_report(snp_evidence(report, b"")["attestation_report"]) == report


def test_a_report_of_turin_is_the_same_again() -> None:
    report = make()[0]
    evidence = snp_evidence(report, b"")
    assert rebuild_report(evidence["attestation_report"]) == report and evidence["cert_chain"] is None
    assert evidence["attestation_report"]["reported_tcb"]["fmc"] == 1


def test_a_table_of_the_host_is_read_with_bounds() -> None:
    report = make()[0]
    found = snp_evidence(report, table(("VCEK", b"v"), ("ASK", b"a")))["cert_chain"]
    assert [each["cert_type"] for each in found] == ["VCEK", "ASK"]
    outside = next(iter(CERTIFICATES)) + b"\xff" * 8
    for odd in (b"\1", os.urandom(400), outside * 40, outside):
        assert snp_evidence(report, odd)["cert_chain"] is None
    with pytest.raises(ValueError, match="1184"):
        snp_evidence(report[1:], b"")
