"""A TPM that nobody enrolled: its maker's certificate and its answer to the broker's challenge stand for its key."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.attest.cases import NOW
from tests.unit.attest.make_certificates import Issued
from tests.unit.attest.make_endorsement import EK, MAKER, OTHER, OTHER_EK, activate
from tests.unit.attest.make_endorsement import NAME as KEY_NAME
from tests.unit.attest.make_tpm import KEY, Tpm, public, registers
from tests.unit.broker.cases import NAME, SECRET, InProcess, audited, broker, write_config, write_reference
from vmtool.broker import decide
from vmtool.serving.kbs.attesters import Attester
from vmtool.serving.kbs.errors import KeyNotReleased
from vmtool.serving.kbs.exchange import fetch


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return NOW

    monkeypatch.setattr(decide, "datetime", Then)
    yield


def refused(call: Callable[[], object]) -> KeyNotReleased:
    with pytest.raises(KeyNotReleased) as caught:
        call()
    return caught.value


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def for_tpm(directory: Path, maker: Issued = MAKER) -> InProcess:
    """A broker that knows a maker of TPMs, and the boot."""
    (directory / "roots").mkdir()
    (directory / "roots" / "tpm-maker.pem").write_bytes(maker.pem)
    reference = write_reference(directory, tpm={"pcrs": {"sha256": {4: registers()[4].hex()}}})
    return broker(write_config(directory, {NAME: {"tee": ["tpm"], "reference": reference}}, roots="roots"))


def tpm(ek: Issued = EK, *, key: Any = KEY, shown: Issued = EK, introduced: object = None, **changes: Any) -> Attester:
    """A guest with a TPM.

    Args:
        shown: whose certificate it shows; ek: the one that answers.
        introduced: what it says of itself instead.
    """
    def responded(said: Any) -> dict[str, str]:
        if "tpm" not in said:
            return {}
        secret = activate(ek.key, base64.b64decode(said["tpm"]), KEY_NAME)
        return {"ek_certificate": text(shown.pem), "activated": text(secret)}

    own = {"ak_public": text(public(KEY)), "ek_certificate": text(shown.pem)}
    return Attester("tpm", "", lambda digest: json.loads(Tpm(nonce=digest, key=key, **changes).json()),
                    introduction=lambda: {"tee-metadata": {"primary_tee": {"tee": "tpm", "metadata": (
                        own if introduced is None else introduced)}, "additional_tees": []}}, responded=responded)


def test_its_maker_stands_for_it_and_each_session_has_a_challenge_of_its_own(tmp_path: Path) -> None:
    server, guest = for_tpm(tmp_path), tpm()
    assert fetch(server, NAME, guest) == SECRET
    first: list[Any] = []

    def always_the_first(said: Any) -> Any:
        first.append(said)
        return guest.responded(first[0])

    old = replace(guest, responded=always_the_first)
    assert fetch(server, NAME, old) == SECRET
    assert refused(lambda: fetch(server, NAME, old)).step == "attest", "the answer to another session's challenge"
    assert "tpm.key-binding: what was activated is not the challenge's" in str(server.refusals()[-1].why)


def test_another_key_another_boot_and_another_maker_get_nothing(tmp_path: Path) -> None:
    server = for_tpm(tmp_path)
    assert refused(lambda: fetch(server, NAME, tpm(key=OTHER))).step == "attest", "a key that was not introduced"
    booted = {number: bytes(32) for number in registers()}
    assert refused(lambda: fetch(server, NAME, tpm(values=booted, quoted=booted, log=None))).step == "attest"
    why = [str(each.why) for each in server.refusals()]
    assert "tpm.key-binding" in why[0] and "tpm.measurement" in why[1] and "key-binding" not in why[1]


@pytest.mark.parametrize("introduced", [
    {}, [], "x", {"ak_public": "AAAA"}, {"ak_public": 1, "ek_certificate": 2},
    {"ak_public": text(public(KEY)), "ek_certificate": "?"}, {"ak_public": "AAAA", "ek_certificate": text(EK.pem)},
    {"ak_public": text(public(KEY)), "ek_certificate": text(MAKER.pem)},
    {"ak_public": text(public(KEY)), "ek_certificate": text(EK.pem), "more": ""},
    {"ak_public": text(public(KEY)), "ek_certificate": "A" * (1 << 20)},
    {"ak_public": text(public(KEY, 0x00030072)), "ek_certificate": text(EK.pem)}])
def test_what_is_no_introduction_is_not_challenged_and_not_believed(tmp_path: Path, introduced: object) -> None:
    server = for_tpm(tmp_path)
    assert refused(lambda: fetch(server, NAME, tpm(introduced=introduced))).step == "attest"
    assert "tpm.key-binding" in str(server.refusals()[-1].why)
    assert all(line["verdict"] == "not-challenged" for line in audited(tmp_path / "broker.yaml"))


def test_a_maker_that_is_not_known_is_not_challenged(tmp_path: Path) -> None:
    server = for_tpm(tmp_path, OTHER_EK)
    assert refused(lambda: fetch(server, NAME, tpm())).step == "attest"
    line = audited(tmp_path / "broker.yaml")[0]
    assert (line["step"], line["verdict"]) == ("auth", "not-challenged")
    assert "certificates are of the issuer" in line["why"]
