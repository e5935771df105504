"""What a server answered, kept in a file: asked for by `vmtool attest evidence`, verified by `vmtool attest verify`."""

from __future__ import annotations

import base64
import json
import os
import shlex
import stat
from pathlib import Path

import pytest
from click.testing import Result

from tests.fakes.snp_signer import MEASUREMENT, signer
from tests.fakes.typed import typed
from tests.unit.attest.make_nvidia import DRIVER_RIM, Device
from tests.unit.connect.cases import KEY, NONCE, answer
from vmtool.attest.request import Roots
from vmtool.attest.server import fetch
from vmtool.attest.server.errors import NotVerified
from vmtool.attest.server.fetch import Answered
from vmtool.attest.server.place import Place
from vmtool.errors import Refused, VerificationFailed
from vmtool.serving.evidence.binding import NO_KEY
from vmtool.serving.evidence.collected import Collected

URL = "https://127.0.0.1:8443"
OTHER = bytes(reversed(NONCE))


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots/amd-turin.pem").write_bytes(signer().roots)
    return tmp_path / "roots"


def verify(tmp_path: Path, data: bytes, *words: object) -> tuple[Result, dict[str, str], list[str]]:
    """The result, the verdicts, and what is required and unproven."""
    (tmp_path / "e.json").write_bytes(data)
    result = typed(tmp_path / "state", "attest", "verify", str(tmp_path / "e.json"), "--roots", str(tmp_path / "roots"),
                   "--json", *map(str, words))
    said = json.loads(result.stdout)
    return result, {claim["id"]: claim["verdict"] for each in said["evidence"] for claim in each["claims"]}, (
        said["unproven"])


def test_the_answer_is_over_its_nonce_and_key_by_the_servers_own_certificates(tmp_path: Path, roots: Path) -> None:
    result, verdicts, unproven = verify(tmp_path, answer(), "--nonce", NONCE.hex())
    assert (result.exit_code, unproven) == (0, [])
    assert [verdicts[f"snp.{name}"] for name in ("binding", "freshness", "chain", "signature")] == ["proven"] * 4
    _, verdicts, unproven = verify(tmp_path, answer())
    assert (verdicts["snp.binding"], verdicts["snp.freshness"], unproven) == ("proven", "not-checked", [])


@pytest.mark.parametrize(("made", "nonce", "unproven"), [
    (lambda: answer(), OTHER, ["snp.freshness"]),
    (lambda: answer(OTHER), NONCE, ["snp.freshness"]),
    (lambda: answer(OTHER, nonce=NONCE.hex()), NONCE, ["snp.binding"]),
    (lambda: answer(key=OTHER.hex()), NONCE, ["snp.binding"]),
    (lambda: answer(key=None), NONCE, ["snp.binding"]),
    (lambda: answer(shown=NO_KEY), NONCE, []),
    (lambda: answer(certificates=None), NONCE, [f"snp.{name}" for name in (
        "chain", "dates", "revocation", "generation", "key-binding", "signature", "tcb", "tcb-floor")]),
    (lambda: answer(kind="tdx"), NONCE, ["evidence.format"]),
    (lambda: answer(certificates="AAAA"), NONCE, ["evidence.format"]),
    (lambda: answer(kind="rim", evidence=base64.b64encode(DRIVER_RIM).decode()), NONCE, ["evidence.format"]),
    (lambda: answer(kind="nvidia", evidence=base64.b64encode(Device().report()).decode()), NONCE, ["evidence.format"]),
    (lambda: answer(more=1), NONCE, ["evidence.format"]),
    (lambda: answer(version=3), NONCE, ["evidence.format"]),
    (lambda: answer(nonce="00"), NONCE, ["evidence.format"]),
    (lambda: answer(key="00" * 32), NONCE, ["evidence.format"]),
    (lambda: answer(ask=lambda bound: None), NONCE, ["evidence.format"])])
def test_another_nonce_key_or_form_proves_nothing(tmp_path: Path, roots: Path, made: object, nonce: bytes,
                                                  unproven: list[str]) -> None:
    result, _, found = verify(tmp_path, made(), "--nonce", nonce.hex())  # type: ignore[operator]
    assert (found, isinstance(result.exception, VerificationFailed)) == (unproven, bool(unproven))


def test_that_there_is_no_tee_is_refused_in_words(tmp_path: Path, roots: Path) -> None:
    verify(tmp_path, answer(ask=lambda bound: None))
    result = typed(tmp_path / "state", "attest", "verify", str(tmp_path / "e.json"))
    assert "the server runs in no TEE: nothing is proven" in result.stdout


def test_reference_values_are_compared_inside(tmp_path: Path, roots: Path) -> None:
    for value, unproven in ((MEASUREMENT.hex(), []), ("00" * 48, ["snp.measurement"])):
        (tmp_path / "r.yaml").write_text(f"snp: {{measurement: '{value}'}}\n")
        assert verify(tmp_path, answer(), "--reference", tmp_path / "r.yaml")[2] == unproven


def serve(monkeypatch: pytest.MonkeyPatch, change: object = lambda data: data, **made: object) -> list[bytes]:
    """A server that answers so, over KEY; what it has answered."""
    sent: list[bytes] = []

    async def fetched(place: Place, nonce: bytes | None = None) -> Answered:
        asked = nonce or NONCE
        sent.append(change(answer(asked, **made)))  # type: ignore[operator, arg-type]
        return Answered(sent[-1], asked, KEY)

    monkeypatch.setattr(fetch, "fetch", fetched)
    return sent


def ask(tmp_path: Path, *words: object) -> Result:
    return typed(tmp_path / "state", "attest", "evidence", URL, *map(str, words))


def test_evidence_is_kept_as_it_came_and_the_shown_command_verifies_it(
        tmp_path: Path, roots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = serve(monkeypatch)
    monkeypatch.setattr("vmtool.attest.facts.read_roots", lambda *given: Roots({"amd-turin.pem": signer().roots}))
    file = tmp_path / "e v.json"
    old = os.umask(0o077)
    try:
        result = ask(tmp_path, "-o", file)
    finally:
        os.umask(old)
    assert result.exit_code == 0, result.output
    assert ([file.read_bytes()], stat.S_IMODE(file.stat().st_mode)) == (sent, 0o644)
    said = result.stdout.splitlines()
    assert said[:3] == [f"{URL}: evidence of kind snp, not verified yet", f"nonce: {NONCE.hex()}",
                        f"TLS key: sha256:{KEY.hex()}"]
    [command] = [line.removeprefix("verify: vmtool ") for line in said if line.startswith("verify: ")]
    checked = typed(tmp_path / "state", *shlex.split(command))
    assert checked.exit_code == 0, checked.output
    assert "snp.freshness    proven" in checked.stdout


def test_a_nonce_of_ones_own_is_asked_and_stdout_has_the_answer_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                      ) -> None:
    sent = serve(monkeypatch)
    result = ask(tmp_path, "--nonce", OTHER.hex().upper())
    assert (result.exit_code, [result.stdout.encode()]) == (0, sent)
    assert json.loads(result.stdout)["nonce"] == OTHER.hex()
    assert f"vmtool attest verify FILE --nonce {OTHER.hex()}" in result.stderr
    for nonce in ("00" * 31, "00" * 33, "xy"):
        assert isinstance(ask(tmp_path, "--nonce", nonce).exception, Refused)


def test_without_a_tee_it_says_so_and_ends_with_4_and_the_answer_is_there(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, ask=lambda bound: None)
    result = ask(tmp_path, "-o", tmp_path / "e.json")
    assert isinstance(result.exception, VerificationFailed)
    assert "NOT CONFIDENTIAL" in result.exception.message
    assert "verify:" not in result.stdout
    assert json.loads((tmp_path / "e.json").read_bytes())["kind"] == "none"


def test_a_tpm_is_evidence_and_not_confidential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, ask=lambda bound: Collected("tpm", b"{}"))
    result = ask(tmp_path, "-o", tmp_path / "e.json", "--json")
    assert (result.exit_code, json.loads(result.stdout)["of_tee"]) == (0, False)
    assert "NOT CONFIDENTIAL" in result.stderr


@pytest.mark.parametrize("change", [
    lambda data: data.replace(NONCE.hex().encode(), OTHER.hex().encode()), lambda data: data[:-1],
    lambda data: data.replace(KEY.hex().encode(), OTHER.hex().encode()), lambda data: b"[]", lambda data: b"\xff"])
def test_an_answer_to_another_nonce_or_of_another_key_is_not_kept(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object) -> None:
    serve(monkeypatch, change)
    assert isinstance(ask(tmp_path, "-o", tmp_path / "e.json").exception, NotVerified)
    assert not (tmp_path / "e.json").exists()


def test_the_answer_and_a_document_do_not_both_go_to_stdout(tmp_path: Path) -> None:
    assert ask(tmp_path, "--json").exit_code == 2
