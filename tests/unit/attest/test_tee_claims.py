"""`guest.tee`: from the files that a guest boots and the report that it gives to a claim, and to nothing better."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proc import Proc
from tests.fakes.snp_signer import signer
from tests.unit.attest import make_firmware
from tests.unit.attest.cases import request
from tests.unit.attest.make_certificates import Form, issue, revoke
from tests.unit.bundle.cases import appraised, forged, launched, unproven
from tests.unit.connect.cases import KEY, NONCE
from tests.unit.kata.cases import RECORD
from vmtool.attest.measure import launch_digest as launch_digests
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.attest.measure.launch_digest import launch_digest
from vmtool.attest.request import Roots
from vmtool.attest.server import fetch
from vmtool.attest.server.errors import NotNow, NotVerified
from vmtool.attest.server.fetch import Answered
from vmtool.attest.tee_claims import _unproven, tee_claim
from vmtool.attest.tee_files import ANSWER, COLLATERAL, files_of
from vmtool.attest.workers import ask_server, compute_reference
from vmtool.bundle.observed import ObservingReader, ReplayingReader, observed_text
from vmtool.claims import Claim
from vmtool.endpoint.client import Server
from vmtool.engine.worker import do_order
from vmtool.errors import VmtoolError
from vmtool.host.local import LocalHost
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.keep_answer import keep_answer
from vmtool.machine import Output, Reader, Trust
from vmtool.serving.evidence.binding import NO_KEY
from vmtool.serving.evidence.collect import document
from vmtool.serving.evidence.collected import Collected

SAID = Claim("guest.tee", "not-checked", "the guest says (not attested): /dev/sev-guest")
TLS = Server("127.0.0.1", 8443, Path("/r"), Trust(Path("/tls")))


class Workers(Proc):
    """A machine on which a worker's question is done in this process."""

    def __init__(self) -> None:
        super().__init__({})

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        said = io.StringIO()
        try:
            with contextlib.redirect_stdout(said):
                do_order(argv[-2], argv[-1], LocalHost())
        except VmtoolError as error:
            return Output(error.code, said.getvalue(), error.message)
        return Output(0, said.getvalue(), "")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """An instance whose reference values are of a guest with this firmware, kernel, initramfs and command line."""
    monkeypatch.setattr("vmtool.attest.facts.read_roots", lambda *given: Roots({"amd-turin.pem": signer().roots}))
    monkeypatch.setattr("vmtool.host.http.known_server", lambda trust: None)
    found = Paths(tmp_path / "instances" / "a")
    found.evidence.mkdir(parents=True)
    reference(found, guest(tmp_path))
    return found


def guest(tmp_path: Path, **changes: Any) -> MeasuredGuest:
    for name, data in (("firmware", make_firmware.snp_firmware()), ("kernel", make_firmware.kernel()),
                       ("initrd", b"initrd")):
        (tmp_path / name).write_bytes(data)
    made = MeasuredGuest("snp", "x86_64", tmp_path / "firmware", tmp_path / "kernel", tmp_path / "initrd", "quiet",
                         vcpus=1, memory=1 << 30, machine="q35", signature=(25, 1, 1))
    return replace(made, **changes)


def reference(paths: Paths, of: MeasuredGuest) -> None:
    compute_reference.run(compute_reference.Order("a", of, files_of(paths, "snp").evidence / "tee-reference.yaml"),
                          LocalHost())


Ask = Callable[[bytes], Collected | None]


def booted(of: MeasuredGuest, *changes: tuple[int, bytes], table: bytes | None = None) -> Ask:
    """The kernel of a guest that was launched so."""
    measured = ((0x90, launch_digest(of)), (0xc0, bytes(32)))
    return lambda bound: Collected("snp", signer().report(bound.ljust(64, b"\0"), *measured, *changes),
                                   signer().table if table is None else table)


def kept(paths: Paths, monkeypatch: pytest.MonkeyPatch, ask: Ask | BaseException, **more: Any) -> Claim:
    """A look that keeps what it has seen."""
    record, reader = replace(RECORD, tls=True), ObservingReader(Workers())
    found = claim(paths, monkeypatch, ask, server=record.server, reader=reader, **more)
    keep_answer(LocalHost(), reader, Instance("a", paths, record, "running", 9))
    return found


def claim(paths: Paths, monkeypatch: pytest.MonkeyPatch, ask: Ask | BaseException, *, server: Server = TLS,
          tee: str = "snp", key: bytes = KEY, said: Claim = SAID, reader: Reader | None = None) -> Claim:
    async def fetched(*given: object, **headers: object) -> Answered:
        if isinstance(ask, BaseException):
            raise ask
        return Answered(json.dumps(document(NONCE, key, ask)).encode(), NONCE, KEY)

    monkeypatch.setattr(fetch, "fetch", fetched)
    return tee_claim(reader or Workers(), said, ask_server.Order(server, files_of(paths, tee)), tee)


def test_a_report_of_the_computed_guest_proves_it(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                  ) -> None:
    found = kept(paths, monkeypatch, booted(guest(tmp_path)))
    assert (found.id, found.verdict) == ("guest.tee", "proven"), found
    assert launch_digest(guest(tmp_path)).hex() in found.evidence and KEY.hex() in found.evidence
    assert json.loads((paths.evidence / ANSWER).read_text())["kind"] == "snp"


def test_the_host_asks_with_its_key_so_that_nobody_keeps_it_from_asking(paths: Paths, monkeypatch: pytest.MonkeyPatch
                                                                         ) -> None:
    asked: list[dict[str, str]] = []

    async def fetched(place: object, *, headers: dict[str, str]) -> Answered:
        asked.append(headers)
        raise NotVerified("no evidence")

    monkeypatch.setattr(fetch, "fetch", fetched)
    for key in ("", "sk-1234\n"):
        if key:
            paths.key.parent.mkdir(parents=True)
            paths.key.write_text(key)
        said = tee_claim(Workers(), SAID, ask_server.Order(TLS, files_of(paths, "snp")), "snp")
        assert "no evidence" in said.evidence
    assert asked == [{}, {"Authorization": "Bearer sk-1234"}]


@pytest.mark.parametrize("change", [{"cmdline": "quieT"}, {"vcpus": 2}, {"initrd": None}])
def test_another_guest_than_the_computed_one_fails(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   change: dict[str, Any]) -> None:
    found = claim(paths, monkeypatch, booted(guest(tmp_path, **change)))
    assert (found.verdict, "snp.measurement" in found.evidence) == ("failed", True), found


@pytest.mark.parametrize(("changes", "why"), [
    ((0xc0, b"\1" * 32), "snp.host-data"), ((8, (0xb0000).to_bytes(8, "little")), "snp.debug"),
    ((0x50, b"\1" * 64), "snp.binding"), ((0x1a0, b"\x77" * 8), "snp.key-binding")])
def test_a_report_that_is_not_as_it_must_be_fails(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  changes: tuple[int, bytes], why: str) -> None:
    found = claim(paths, monkeypatch, booted(guest(tmp_path), changes))
    assert (found.verdict, why in found.evidence) == ("failed", True), found


def test_a_report_that_nobody_trusted_signed_fails(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                   ) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("vmtool.host.http.known_server", lambda trust: None)
    assert claim(paths, monkeypatch, booted(guest(tmp_path))).verdict == "failed", "the roots that come with vmtool"


def test_what_gives_no_evidence_is_not_checked_with_the_reason(paths: Paths, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    good = booted(guest(tmp_path))
    for found, why in (
            (claim(paths, monkeypatch, NotVerified("it gives no evidence (status 503)")), "status 503"),
            (claim(paths, monkeypatch, lambda bound: None), "its endpoint has no evidence: unconfidential"),
            (claim(paths, monkeypatch, good, server=replace(TLS, trust=None)), "speaks no TLS"),
            (claim(paths, monkeypatch, good, key=NO_KEY), "another TLS key"),
            (claim(paths, monkeypatch, booted(guest(tmp_path), table=b"")), "VCEK")):
        assert (found.verdict, why in found.evidence) == ("not-checked", True), found
        assert found.evidence.startswith(SAID.evidence)
    assert not (paths.evidence / ANSWER).exists(), "a look that keeps nothing, such as watch's, writes nothing"


def test_of_an_earlier_look_no_evidence_stays(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(tmp_path, vcek=signer().vcek.der, README=b"put certificates here")
    nothing: tuple[Ask | BaseException, ...] = (lambda bound: None, NotVerified("status 503"))
    for after in nothing:
        kept(paths, monkeypatch, booted(guest(tmp_path)))
        assert (paths.evidence / ANSWER).exists()
        assert [path.name for path in (paths.evidence / COLLATERAL).iterdir()] == ["vcek"]
        kept(paths, monkeypatch, after)
        assert not (paths.evidence / ANSWER).exists() and not (paths.evidence / COLLATERAL).exists()


def test_certificates_of_the_host_are_used_and_kept(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                    ) -> None:
    (tmp_path / COLLATERAL).mkdir()
    (tmp_path / COLLATERAL / "vcek.der").write_bytes(signer().vcek.der)
    assert kept(paths, monkeypatch, booted(guest(tmp_path), table=b"")).verdict == "proven"
    assert (paths.evidence / COLLATERAL / "vcek.der").read_bytes() == signer().vcek.der


def bring(tmp_path: Path, **files: bytes) -> None:
    """Files in the host's directory of collateral."""
    (tmp_path / COLLATERAL).mkdir()
    for name, data in files.items():
        (tmp_path / COLLATERAL / name).write_bytes(data)


def test_what_is_no_collateral_contradicts_nothing(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                   ) -> None:
    bring(tmp_path, README=b"put certificates here\n", gitkeep=b"")
    (tmp_path / COLLATERAL / "old").mkdir()
    assert claim(paths, monkeypatch, booted(guest(tmp_path))).verdict == "proven"
    found = claim(paths, monkeypatch, booted(guest(tmp_path), table=b""))
    assert found.verdict == "not-checked"
    assert "README: " in found.evidence and "gitkeep" in found.evidence


def test_other_certificates_of_the_host_hide_no_right_one(paths: Paths, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a TPM's CA, and the VCEKs of another processor and of the firmware before an update."""
    other = issue("SEV-VCEK", None, Form(authority=False))
    bring(tmp_path, tpm=issue("TPM CA").der, a_vcek=other.der)
    assert claim(paths, monkeypatch, booted(guest(tmp_path))).verdict == "proven"
    (tmp_path / COLLATERAL / "b_vcek").write_bytes(signer().vcek.der)
    assert claim(paths, monkeypatch, booted(guest(tmp_path), table=b"")).verdict == "proven"


def test_a_revocation_list_that_has_expired_is_a_missing_one(paths: Paths, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    ark, first, last = signer().ark, datetime(2021, 1, 1, tzinfo=UTC), datetime(2021, 2, 1, tzinfo=UTC)
    assert ark
    bring(tmp_path, crl=revoke(ark, first=first, last=last))
    found = claim(paths, monkeypatch, booted(guest(tmp_path)))
    assert (found.verdict, "has expired" in found.evidence) == ("not-checked", True), found
    (tmp_path / COLLATERAL / "crl").write_bytes(revoke(ark, 77, first=first, last=last))
    assert claim(paths, monkeypatch, booted(guest(tmp_path))).verdict == "failed", "what is revoked stays so"


def test_an_endpoint_that_others_keep_busy_is_asked_again(paths: Paths, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask_server, "PAUSE", 0.0)
    good, busy = booted(guest(tmp_path)), [NotNow("status 429"), NotNow("status 503")]

    def ask(bound: bytes) -> Collected | None:
        if busy:
            raise busy.pop()
        return good(bound)

    assert claim(paths, monkeypatch, ask).verdict == "proven"
    monkeypatch.setattr(ask_server, "SECONDS", 0.0)
    found = claim(paths, monkeypatch, NotNow("status 429"))
    assert found.verdict == "not-checked" and "429" in found.evidence


def test_without_a_computed_measurement_no_report_proves_it(paths: Paths, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    reference(paths, guest(tmp_path, cmdline=None, unknown="Kata 9's words are unknown"))
    found = claim(paths, monkeypatch, booted(guest(tmp_path)))
    assert (found.verdict, "Kata 9's words are unknown" in found.evidence) == ("not-checked", True)
    monkeypatch.setattr(launch_digests, "PACKAGE", "no_such_library")
    reference(paths, guest(tmp_path))
    monkeypatch.setattr(launch_digests, "PACKAGE", "sevsnpmeasure")
    found = claim(paths, monkeypatch, booted(guest(tmp_path)))
    assert (found.verdict, "sev-snp-measure" in found.evidence) == ("not-checked", True), "and the launch went on"
    (paths.evidence / "tee-reference.yaml").unlink()
    assert claim(paths, monkeypatch, booted(guest(tmp_path))).verdict == "not-checked"


@pytest.mark.parametrize("handler", ["kata", "libvirt"])
def test_a_launch_asks_its_own_endpoint_only_with_proof(handler: str) -> None:
    """And no other machine than the one with the worker knows more than the guest's own word."""
    module = importlib.import_module(f"vmtool.{handler}.proof")
    look = module.domain_claims if handler == "libvirt" else module.guest_claims
    details = {**RECORD.details, "rendered": "/i/chat/kata/configuration.toml", "channel": "/c.sock"}
    record = replace(RECORD, handler=handler, details=details)
    instance = Instance("chat", Paths(Path("/i/chat")), record, "running", 9)
    for whole in (False, True):
        reader = ObservingReader(Proc({}))
        [found] = [each for each in look(reader, instance, record, whole=whole) if each.id == "guest.tee"]
        assert found.verdict == "not-checked"
        assert any("attest.ask_server" in " ".join(key) for key in reader.answers) == whole
        assert ("it gave no evidence: not within 60 s" in found.evidence) == whole
    plain = replace(record, tee="none")
    reader = ObservingReader(Proc({}))
    look(reader, replace(instance, record=plain), plain, whole=True)
    assert not any("attest.ask_server" in " ".join(key) for key in reader.answers)


def test_evidence_of_another_tee_fails_and_the_guests_own_word_counts(paths: Paths, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim(paths, monkeypatch, booted(guest(tmp_path)), tee="tdx").verdict == "failed"
    denied = Claim("guest.tee", "failed", "there is no /dev/sev-guest in it")
    assert claim(paths, monkeypatch, booted(guest(tmp_path)), said=denied) == denied


def test_it_is_verified_again_out_of_a_bundle(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(paths, monkeypatch, booted(guest(tmp_path)))
    data_of_answer = (paths.evidence / ANSWER).read_bytes()
    trusting = request(roots=Roots({"amd-turin.pem": signer().roots}))
    data = launched(tmp_path / "other", {f"evidence/{ANSWER}": data_of_answer}).bundle()
    assert unproven(data, trusting) == []
    assert appraised(data, trusting)["snp"].title == f"AMD SEV-SNP (evidence/{ANSWER})"
    changed = data_of_answer.replace(KEY.hex().encode(), KEY[::-1].hex().encode())
    assert unproven(forged(data, lambda members: members.update({f"evidence/{ANSWER}": changed})), trusting) == [
        "bundle.files", "snp.binding"]


def test_the_claim_follows_again_from_what_was_observed(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                        ) -> None:
    good, observing = booted(guest(tmp_path)), ObservingReader(Workers())
    first = claim(paths, monkeypatch, good, reader=observing)
    text = observed_text(observing.answers, {}).encode()
    assert first.verdict == "proven"
    assert claim(paths, monkeypatch, good, reader=ReplayingReader(text, {})) == first
    forged_text = text.replace(launch_digest(guest(tmp_path)).hex().encode(), b"00" * 48)
    assert claim(paths, monkeypatch, good, reader=ReplayingReader(forged_text, {})).verdict == "failed"


def test_where_no_root_comes_with_vmtool_the_claim_says_who_verifies_it() -> None:
    """A root among the collateral would be trusted no more than any certificate."""
    said, wrong = Claim("guest.tee", "not-checked", "said"), [Claim("virtcca.chain", "not-checked", "no roots")]
    assert "attest verify --roots" in _unproven(wrong, "virtcca", said, ()).evidence
    assert f"{COLLATERAL}/" in _unproven(wrong, "snp", said, ()).evidence
