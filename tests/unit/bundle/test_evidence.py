"""Evidence of guests inside of bundles: verified as by itself, and what it says of whose the bundle is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.fakes.snp_signer import MEASUREMENT as GENUINE
from tests.fakes.snp_signer import signer
from tests.unit.attest.cases import needs_vectors, request, vector
from tests.unit.attest.make_nvidia import DRIVER_RIM, VBIOS_RIM, Device
from tests.unit.attest.make_nvidia import ROOTS as NVIDIA_ROOTS
from tests.unit.attest.make_snp import Changes, authorities, make
from tests.unit.bundle.cases import appraised, forged, launched, unproven
from tests.unit.connect.cases import NOW, answer
from vmtool.attest.request import Request, Roots
from vmtool.bundle.archive import unpack
from vmtool.bundle.chain import launch_root_of

MEASUREMENT = "22" * 48
REPORT, VCEK = "evidence/report.bin", "evidence/collateral/vcek.der"


def asked(**more: Any) -> Request:
    return request(roots=authorities()[2], **more)


@needs_vectors
def test_genuine_evidence_is_verified_with_the_certificates_beside_it(tmp_path: Path) -> None:
    good = {REPORT: vector("snp/milan-vcek-report.bin"), VCEK: vector("snp/milan-vcek.der")}
    data = launched(tmp_path, good).bundle()
    assert unproven(data, request()) == []
    assert appraised(data, request())["snp"].title == f"AMD SEV-SNP ({REPORT})"
    assert "snp.measurement" in unproven(data, request(snp={"measurement": MEASUREMENT}))
    for member in (REPORT, VCEK):
        changed = forged(data, lambda members, member=member: members.update(  # type: ignore[misc]
            {member: members[member][:-1] + bytes((members[member][-1] ^ 1,))}))
        assert any(name.startswith(("snp.", "collateral.")) for name in unproven(changed, request()))


@needs_vectors
def test_what_is_refused_by_itself_is_refused_in_a_bundle(tmp_path: Path) -> None:
    debug = {REPORT: vector("snp/go-milan-report.bin"), VCEK: vector("snp/go-milan-vcek.der")}
    assert unproven(launched(tmp_path / "debug", debug).bundle(), request()) == ["snp.debug"]
    alone = {REPORT: vector("snp/milan-vcek-report.bin")}
    assert "snp.chain" in unproven(launched(tmp_path / "alone", alone).bundle(), request())


def test_evidence_over_what_was_launched_says_whose_the_bundle_is(tmp_path: Path) -> None:
    """And only then: of an expected guest, over this launch, and all of it verified."""
    found = launched(tmp_path)
    root = launch_root_of(unpack(found.bundle()))
    report, vcek = make(Changes(report=((0x50, bytes.fromhex(root) + bytes(32)),)))
    for name, content in {REPORT: report, VCEK: vcek}.items():
        path = found.instance.paths.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    data = found.bundle()
    assert launch_root_of(unpack(data)) == root, "the same launch"
    expected: dict[str, Any] = {"snp": {"measurement": MEASUREMENT}}
    assert unproven(data, asked(**expected)) == []
    assert appraised(data, asked(**expected))["bundle"].claims[-1].verdict == "proven"
    assert appraised(data, asked())["bundle"].claims[-1].verdict == "not-checked", "any guest can be over it"
    assert appraised(data, request(**expected))["bundle"].claims[-1].verdict == "not-checked", "of no trusted maker"
    other = launched(tmp_path, {"net/more": b"{}", REPORT: report, VCEK: vcek}).bundle()
    assert appraised(other, asked(**expected))["bundle"].claims[-1].verdict == "not-checked", "of another launch"


def test_what_a_server_answers_to_anybody_says_nothing_of_a_launch(tmp_path: Path) -> None:
    """Whoever asks a genuine server with the launch's digest as the nonce gets evidence over it, without a key."""
    found = launched(tmp_path)
    root = bytes.fromhex(launch_root_of(unpack(found.bundle())))
    (found.instance.paths.directory / "evidence/answer.json").write_bytes(answer(root))
    genuine = request(roots=Roots({"amd-turin.pem": signer().roots}), snp={"measurement": GENUINE.hex()}, at=NOW)
    shown = appraised(found.bundle(), genuine)
    assert {claim.verdict for claim in shown["snp"].claims if claim.id in ("snp.binding", "snp.measurement")} == {
        "proven"}
    assert shown["bundle"].claims[-1].verdict == "not-checked"


def test_a_gpu_says_nothing_of_whose_the_bundle_is(tmp_path: Path) -> None:
    """Whoever has one anywhere gets a report over the launch's digest, and its maker's own values let it pass."""
    found = launched(tmp_path)
    root = bytes.fromhex(launch_root_of(unpack(found.bundle())))
    for name, content in {"gpu.json": Device(nonce=root).json(), "collateral/driver": DRIVER_RIM,
                          "collateral/vbios": VBIOS_RIM}.items():
        path = found.instance.paths.evidence / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    values: tuple[dict[str, Any], ...] = ({}, {"nvidia": {"count": 1, "driver": "600.1"}})
    for expected in values:
        genuine = request(roots=NVIDIA_ROOTS, nonce=root, **expected)
        shown = appraised(found.bundle(), genuine)
        assert {claim.verdict for claim in shown["nvidia0"].claims if claim.id in (
            "nvidia0.freshness", "nvidia0.measurement")} == {"proven"}
        assert shown["bundle"].claims[-1].verdict == "not-checked"


def test_evidence_that_is_damaged_is_named(tmp_path: Path) -> None:
    data = launched(tmp_path, {"evidence/quote.json": b'{"quote": 7}'}).bundle()
    found = appraised(data, request())
    assert found["evidence"].claims[0].evidence == "evidence/quote.json: quote is no text"


def test_a_member_that_the_claims_do_not_rest_on_is_refused(tmp_path: Path) -> None:
    data = launched(tmp_path).bundle()
    for name in ("net/more", REPORT, "rendered/domain.xml"):
        assert "bundle.files" in unproven(forged(data, lambda members, name=name: members.update(  # type: ignore[misc]
            {name: b"x"})), request())
