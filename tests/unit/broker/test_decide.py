"""The whole way from evidence to key in one process, and every way in which it must not lead there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.attest.cases import NOW
from tests.unit.attest.make_certificates import Form, issue, revoke
from tests.unit.attest.make_nvidia import (
    DICE,
    DRIVER_RIM,
    GOLDEN,
    OPAQUE,
    ROOT,
    VBIOS,
    VBIOS_RIM,
    Device,
    resource,
    rim,
)
from tests.unit.attest.make_nvidia import ROOTS as NVIDIA_ROOTS
from tests.unit.attest.make_snp import authorities, sign
from tests.unit.attest.make_tpm import KEY, Tpm, registers
from tests.unit.attest.make_tpm import name as key_name
from tests.unit.broker.cases import NAME, SECRET, InProcess, audited, broker, write_config, write_reference
from vmtool.broker import decide
from vmtool.broker.refusals import KbsRefusal
from vmtool.serving.kbs.attesters import Attester, sample_evidence
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.exchange import fetch
from vmtool.serving.kbs.runtime_data import report_data
from vmtool.serving.kbs.snp_json import snp_evidence
from vmtool.serving.kbs.tee_keys import jwk_of, new_key

SAMPLE = Attester("sample", "", sample_evidence)
MEASUREMENT, HOST_DATA = "22" * 48, "33" * 32
INIT = """version = "0.1.0"
algorithm = "sha256"
[data]
"vmtool.toml" = '''
model = "llama"
signer = "s-1"
'''
"""


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """A day on which the certificates that tests make are valid."""
    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return NOW

    monkeypatch.setattr(decide, "datetime", Then)


def snp(change: Callable[[bytes], bytes] = lambda digest: digest, *, policy: int = 0x30000,
        measurement: bytes = b"\x22" * 48, host_data: bytes = b"\x33" * 32) -> Attester:
    """A guest on a processor whose root only tests trust, with evidence of the genuine form."""
    def primary(digest: bytes) -> Any:
        vek = made_vcek()
        report = sign(vek, ((0x50, change(digest).ljust(64, b"\0")), (8, policy.to_bytes(8, "little")),
                            (0x90, measurement), (0xc0, host_data)))
        evidence = snp_evidence(report, b"")
        return evidence | {"cert_chain": [{"cert_type": "VCEK", "data": list(vek.der)}]}

    return Attester("snp", "", primary)


def made_vcek() -> Any:
    from cryptography.hazmat.primitives.asymmetric import ec

    from tests.unit.attest.make_snp import AMD, CHIP, GOOD, TURIN_TCB

    extensions = [(f"{AMD}.2", GOOD.product), (f"{AMD}.4", CHIP),
                  *((f"{AMD}.3.{number}", bytes((2, 1, version))) for number, version in TURIN_TCB.items())]
    return issue("SEV-VCEK", authorities()[1], Form(authority=False, extensions=extensions, serial=9),
                 key=ec.generate_private_key(ec.SECP384R1()))


def manifests(directory: Path) -> list[str]:
    """The files of a broker's collateral with which a GPU's measurements are compared."""
    (directory / "driver.swidtag").write_bytes(DRIVER_RIM)
    (directory / "vbios.swidtag").write_bytes(VBIOS_RIM)
    return ["driver.swidtag", "vbios.swidtag"]


def for_snp(directory: Path, roots: bool = True, measurement: str = MEASUREMENT, more: Any = None,
            collateral: Sequence[str] = (), **policy: Any) -> InProcess:
    """A broker whose resource is for an SNP guest of this measurement."""
    where = directory / "roots"
    where.mkdir(exist_ok=True)
    files = authorities()[2].files if roots else {}
    for name, data in {**files, **NVIDIA_ROOTS.files}.items():
        (where / name).write_bytes(data)
    reference = write_reference(directory, snp={"measurement": measurement}, **(more or {}))
    return broker(write_config(directory, {NAME: {"tee": ["snp"], "reference": reference, **policy}}, roots="roots",
                               collateral=list(collateral), allow_unconfidential=None))


def refused(call: Callable[[], object]) -> KeyNotReleased:
    with pytest.raises(KeyNotReleased) as caught:
        call()
    return caught.value


def test_the_sample_attester_gets_what_is_for_nobody_in_particular(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    assert fetch(server, NAME, SAMPLE) == SECRET
    lines = audited(tmp_path / "broker.yaml")
    assert [(line["step"], line["verdict"]) for line in lines] == [("attest", "granted"), ("resource", "released")]
    assert lines[1]["resource"] == NAME and lines[0]["session"] == lines[1]["session"]
    text = (tmp_path / "audit.jsonl").read_text()
    assert "..." not in text and "oct" not in text


def test_an_snp_guest_of_the_right_measurement_gets_its_key(tmp_path: Path) -> None:
    assert fetch(for_snp(tmp_path), NAME, snp()) == SECRET


@pytest.mark.parametrize(("attester", "why"), [
    (lambda: snp(measurement=b"\x21" * 48), "snp.measurement"),
    (lambda: snp(lambda digest: bytes(48)), "snp.freshness"),
    (lambda: snp(policy=0xb0000), "snp.debug"),
    (lambda: SAMPLE, "the policy asks for snp"),
    (lambda: Attester("snp", "", sample_evidence), "evidence.format"),
    (lambda: Attester("tdx", "", snp().primary), "the policy asks for snp"),
    (lambda: Attester("snp", "", lambda digest: json.loads(Tpm().json())), "another kind: TPM 2.0"),
    (lambda: Attester("snp", "", lambda digest: [snp().primary(digest)] * 2), "a device has unknown keys"),
    (lambda: Attester("snp", "", snp().primary, lambda digest: "{}"), "additional_evidence has nvidia"),
    (lambda: Attester("snp", "", snp().primary, lambda digest: "{"), "not JSON"),
    (lambda: Attester("snp", "", lambda digest: None), "evidence"),
])
def test_another_guest_does_not(tmp_path: Path, attester: Callable[[], Attester], why: str) -> None:
    server = for_snp(tmp_path)
    error = refused(lambda: fetch(server, NAME, attester()))
    assert error.step == "attest" and "AttestationError" in error.why
    (found,) = server.refusals()
    assert why in json.dumps(found.why), found.why
    # The guest learns nothing of it.
    assert "measurement" not in json.dumps(found.values()) and "snp" not in json.dumps(found.values())


def test_roots_that_are_not_trusted_prove_nothing(tmp_path: Path) -> None:
    server = for_snp(tmp_path, roots=False)
    refused(lambda: fetch(server, NAME, snp()))
    assert "snp.chain" in json.dumps(server.refusals()[0].why)


def test_init_data_binds_model_and_signer(tmp_path: Path) -> None:
    digest = hashlib.sha256(INIT.encode()).digest()
    server = for_snp(tmp_path, model="llama", signer="s-1")
    assert fetch(server, NAME, snp(host_data=digest), INIT) == SECRET
    for attester, text in ((snp(host_data=digest), ""), (snp(), INIT),
                           (snp(host_data=digest), INIT + "\n"),
                           (snp(host_data=hashlib.sha256(INIT.replace("llama", "other").encode()).digest()),
                            INIT.replace("llama", "other"))):
        assert refused(lambda a=attester, t=text: fetch(server, NAME, a, t)).step == "attest"  # type: ignore[misc]


def test_init_data_that_is_sent_must_be_the_guests_even_where_nobody_asks(tmp_path: Path) -> None:
    server = for_snp(tmp_path)
    assert refused(lambda: fetch(server, NAME, snp(), INIT)).step == "attest"
    assert "snp.host-data" in json.dumps(server.refusals()[-1].why)


def gpu(change: Callable[[bytes], bytes] = lambda digest: digest) -> Callable[[bytes], str]:
    def additional(digest: bytes) -> str:
        return json.dumps({"nvidia": json.loads(Device(nonce=change(digest)[:32]).json())})

    return additional


def test_a_gpu_that_is_asked_for_must_be_shown_and_fresh(tmp_path: Path) -> None:
    server = for_snp(tmp_path, gpu=True, collateral=manifests(tmp_path))
    assert fetch(server, NAME, Attester("snp", "", snp().primary, gpu())) == SECRET
    assert refused(lambda: fetch(server, NAME, snp())).step == "attest"
    assert "none was shown" in json.dumps(server.refusals()[-1].why)
    stale = Attester("snp", "", snp().primary, gpu(lambda digest: bytes(48)))
    assert refused(lambda: fetch(server, NAME, stale)).step == "attest"
    assert "nvidia0.freshness" in json.dumps(server.refusals()[-1].why)


def test_a_gpu_that_is_asked_for_is_measured(tmp_path: Path) -> None:
    server = for_snp(tmp_path, gpu=True)
    assert refused(lambda: fetch(server, NAME, Attester("snp", "", snp().primary, gpu()))).step == "attest"
    assert "nvidia0.measurement: no reference manifests given" in json.dumps(server.refusals()[-1].why)


def test_a_switch_is_no_gpu(tmp_path: Path) -> None:
    leaf = issue("LS_10 test", ROOT, Form(authority=False, extensions=[("2.23.133.5.4.1", DICE)], serial=34))
    opaque = {kind: value for kind, value in OPAQUE.items() if kind in (6, 21)}
    rest = tmp_path / "rest"
    rest.mkdir()
    (rest / "vbios.swidtag").write_bytes(rim(VBIOS, *(
        resource(index - 1, value) for index, value in GOLDEN.items())))

    def switch(digest: bytes) -> str:
        made = Device(opaque=tuple(opaque.items()), nonce=digest[:32], issued=leaf, more={"arch": "LS10"})
        return json.dumps({"nvidia": json.loads(made.json())})

    for asked in (False, True):
        server = for_snp(tmp_path, gpu=asked, collateral=["rest/vbios.swidtag"])
        attester = Attester("snp", "", snp().primary, switch)
        if asked:
            assert refused(lambda: fetch(server, NAME, attester)).step == "attest"  # noqa: B023 - called at once
            assert "no GPU is shown" in json.dumps(server.refusals()[-1].why)
        else:
            assert fetch(server, NAME, attester) == SECRET


def test_lists_of_one_maker_do_not_keep_the_others_evidence_from_being_proven(tmp_path: Path) -> None:
    """The broker's collateral is for all that its policies ask for."""
    (tmp_path / "amd.crl").write_bytes(revoke(authorities()[0]))
    (tmp_path / "nvidia.crl").write_bytes(revoke(ROOT))
    shown = Attester("snp", "", snp().primary, gpu())
    given = [*manifests(tmp_path), "amd.crl"]
    assert fetch(for_snp(tmp_path, gpu=True, collateral=given), NAME, shown) == SECRET
    assert fetch(for_snp(tmp_path, gpu=True, collateral=[*given, "nvidia.crl"]), NAME, shown) == SECRET
    (tmp_path / "nvidia.crl").write_bytes(revoke(ROOT, 32))
    server = for_snp(tmp_path, gpu=True, collateral=[*given, "nvidia.crl"])
    assert refused(lambda: fetch(server, NAME, shown)).step == "attest"
    assert "is revoked" in json.dumps(server.refusals()[-1].why)
    server = for_snp(tmp_path, collateral=["nvidia.crl"])
    assert refused(lambda: fetch(server, NAME, snp())).step == "attest", "it is for nothing that this broker asks for"


def test_a_gpu_that_nobody_asked_for_is_verified_all_the_same(tmp_path: Path) -> None:
    stale = Attester("snp", "", snp().primary, gpu(lambda digest: bytes(48)))
    assert refused(lambda: fetch(for_snp(tmp_path), NAME, stale)).step == "attest"


def test_a_tpm_with_an_enrolled_key_gets_its_key(tmp_path: Path) -> None:
    reference = write_reference(tmp_path, tpm={"keys": [key_name(KEY)], "pcrs": {"sha256": {4: registers()[4].hex()}}})
    server = broker(write_config(tmp_path, {NAME: {"tee": ["tpm"], "reference": reference}}))
    attester = Attester("tpm", "", lambda digest: json.loads(Tpm(nonce=digest).json()))
    assert fetch(server, NAME, attester) == SECRET
    assert refused(lambda: fetch(server, NAME, Attester("tpm", "", lambda digest: json.loads(Tpm().json()))))


# One guest, one challenge, one answer, one resource.

def auth(server: InProcess, **changes: Any) -> tuple[str, str]:
    body = json.dumps({"version": "0.4.0", "tee": "sample", "extra-params": {}} | changes).encode()
    values, cookies = server.answered("/kbs/v0/auth", body, "")
    return values["nonce"], cookies["kbs-session-id"]


def evidence(nonce: str, jwk: dict[str, str], **changes: Any) -> bytes:
    values = {"runtime-data": {"nonce": nonce, "tee-pubkey": jwk}, "tee-evidence": {
        "primary_evidence": sample_evidence(report_data(nonce, jwk, "")), "additional_evidence": ""}}
    return json.dumps(values | changes).encode()


JWK = jwk_of(new_key().public_key())


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(KbsRefusal) as caught:
        call()
    return caught.value.kind


def test_a_challenge_is_answered_once(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    nonce, cookie = auth(server)
    assert "token" in server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)[0]
    assert error_of(lambda: server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)) == "TokenNotFound"


def test_a_wrong_answer_uses_the_challenge_up(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    nonce, cookie = auth(server)
    assert error_of(lambda: server.answered("/kbs/v0/attest", b"{}", cookie)) == "AttestationError"
    assert error_of(lambda: server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)) == "TokenNotFound"


def test_a_session_releases_one_resource(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    nonce, cookie = auth(server)
    server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)
    server.answered(f"/kbs/v0/resource/{NAME}", b"", cookie)
    assert error_of(lambda: server.answered(f"/kbs/v0/resource/{NAME}", b"", cookie)) == "TokenNotFound"


def test_the_nonce_is_that_of_the_cookie(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    (first, _), (_, second) = auth(server), auth(server)
    assert error_of(lambda: server.answered("/kbs/v0/attest", evidence(first, JWK), second)) == "AttestationError"


def test_evidence_for_another_key_is_refused(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    nonce, cookie = auth(server)
    body = json.loads(evidence(nonce, JWK))
    body["runtime-data"]["tee-pubkey"] = jwk_of(new_key().public_key())
    assert error_of(lambda: server.answered("/kbs/v0/attest", json.dumps(body).encode(), cookie)) == "AttestationError"


@pytest.mark.parametrize("step", ["attest", "resource"])
def test_a_session_ends(tmp_path: Path, step: str) -> None:
    server = broker(write_config(tmp_path), seconds=60)
    nonce, cookie = auth(server)
    if step == "resource":
        server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)
    server.clock.now += 60
    path = "/kbs/v0/attest" if step == "attest" else f"/kbs/v0/resource/{NAME}"
    assert error_of(lambda: server.answered(path, evidence(nonce, JWK), cookie)) == "TokenNotFound"


def test_one_address_leaves_room_for_others(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path), sessions=20)
    auth(server)
    auth(server)
    with pytest.raises(KbsRefusal) as caught:
        auth(server)
    assert caught.value.status == 503
    server.clock.now += 301
    assert auth(server)


@pytest.mark.parametrize("changes", [{"version": "0.1.1"}, {"version": "0.3.0"}, {"version": "0.4.1"}, {"version": 4},
                                     {"version": None}, {"tee": "sev"}, {"tee": None}, {"tee": ["snp"]}])
def test_only_this_version_and_known_tees(tmp_path: Path, changes: Any) -> None:
    server = broker(write_config(tmp_path))
    assert error_of(lambda: auth(server, **changes)) == "AttestationError"


def test_another_models_key_is_denied(tmp_path: Path) -> None:
    """A guest that may have one resource, and asks for another, for one that is not there, or for a file."""
    reference = write_reference(tmp_path, snp={"measurement": MEASUREMENT})
    server = broker(write_config(tmp_path, {NAME: {"tee": ["sample"]}, "demo/other/key": {
        "tee": ["snp"], "reference": reference}}))
    for name, kind in (("demo/other/key", "PolicyDeny"), ("demo/absent/key", "PluginInternalError"),
                       ("../../etc/passwd", "PluginInternalError")):
        assert kind in refused(lambda name=name: fetch(server, name, SAMPLE)).why  # type: ignore[misc]


def test_a_file_that_others_may_read_by_now_is_not_released(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    (tmp_path / "demo-model-key.jwk").chmod(0o640)
    assert "PluginInternalError" in refused(lambda: fetch(server, NAME, SAMPLE)).why
    assert "0640" in str(server.refusals()[0].why)


def test_nothing_is_released_that_cannot_be_audited(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    (tmp_path / "audit.jsonl").mkdir()
    nonce, cookie = auth(server)
    with pytest.raises(OSError, match="directory"):
        server.answered("/kbs/v0/attest", evidence(nonce, JWK), cookie)
    assert not server.decisions.sessions.attested


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=12), lambda inner: st.lists(
    inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["runtime-data", "tee-evidence", "init-data", "nonce", "tee-pubkey", "primary_evidence", "additional_evidence",
         "attestation_report", "cert_chain", "report_data", "svn", "format", "body", "quote", "token"]), inner,
        max_size=4), max_leaves=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(value=JSON, part=st.sampled_from(["whole", "runtime-data", "tee-evidence", "init-data", "primary_evidence"]))
def test_no_other_body_is_accepted_or_crashes(tmp_path: Path, value: Any, part: str) -> None:
    server = for_snp(tmp_path)
    nonce, cookie = auth(server, tee="snp")
    body = json.loads(evidence(nonce, JWK))
    if part == "primary_evidence":
        body["tee-evidence"][part] = value
    else:
        body = value if part == "whole" else body | {part: value}
    assert error_of(lambda: server.answered("/kbs/v0/attest", json.dumps(body).encode(), cookie)) in (
        "AttestationError", "SerdeError")


@given(st.binary(max_size=200))
def test_no_other_bytes_are_accepted_or_crash(data: bytes) -> None:
    with pytest.raises(KbsRefusal):
        decide._object(data if data.strip()[:1] != b"{" else b"[" + data)


def test_deep_json_is_refused(tmp_path: Path) -> None:
    server = broker(write_config(tmp_path))
    assert error_of(lambda: server.answered("/kbs/v0/auth", b"[" * 100_000, "")) == "SerdeError"


def test_the_time_is_utc() -> None:
    assert datetime.now(UTC).tzinfo is UTC
