"""A key that a TPM of a known maker has shown to be its own, by telling a secret that only it could decrypt."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fakes.rsa_keys import rsa_key
from tests.fakes.typed import typed
from tests.unit.attest.cases import NOW, request, unproven
from tests.unit.attest.make_cca import ROOTS as CCA
from tests.unit.attest.make_cca import Made
from tests.unit.attest.make_certificates import Form, Issued, issue, revoke
from tests.unit.attest.make_endorsement import EK, EK_USAGE, MAKER, NAME, OTHER, OTHER_EK, ROOTS, activate
from tests.unit.attest.make_tpm import KEY, NONCE, Tpm, name
from vmtool.attest.appraisal import NotChecked, NotProven
from vmtool.attest.request import Request
from vmtool.attest.tpm.challenge import challenge_for, make_challenge
from vmtool.attest.tpm.credential import make_credential
from vmtool.errors import Refused, VerificationFailed


@pytest.mark.parametrize("key", [
    EK.key, rsa_key(3072), OTHER, ec.generate_private_key(ec.SECP384R1())],
    ids=["rsa2048", "rsa3072", "p256", "p384"])
def test_only_that_tpm_and_only_for_that_key(key: Any) -> None:
    credential = make_credential(key.public_key(), b"\0\x0bname", b"secret")
    assert activate(key, credential, b"\0\x0bname") == b"secret"
    with pytest.raises(ValueError, match="integrity"):
        activate(key, credential, b"\0\x0bother")


def test_a_key_that_no_tpm_has_as_its_ek() -> None:
    for key in (ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2056)):
        with pytest.raises(NotProven, match="no endorsement key"):
            make_credential(key.public_key(), b"name", b"secret")


def evidence(ek: Issued = EK, activated: bytes | None = None, **more: Any) -> bytes:
    found = json.loads(Tpm(**more).json()) | {"ek_certificate": base64.b64encode(ek.pem).decode()}
    return json.dumps(found | ({} if activated is None else {
        "activated": base64.b64encode(activated).decode()})).encode()


def asked(kept: str | None = None, **more: Any) -> Request:
    return replace(request(roots=ROOTS, nonce=NONCE, **more), challenge=kept.encode() if kept else None)


def answered(ek: Issued = EK) -> tuple[bytes, str]:
    credential, kept = challenge_for(json.loads(evidence(ek)), asked())
    return activate(ek.key, credential, NAME), kept


def test_a_tpm_that_answers_proves_its_key_and_any_other_answer_nothing() -> None:
    secret, kept = answered()
    assert unproven(evidence(activated=secret), asked(kept)) == []
    assert unproven(evidence(activated=secret), asked()) == ["tpm.key-binding"], "the answer alone says nothing"
    for wrong in (evidence(activated=secret[::-1]), evidence(activated=b""), evidence(),
                  evidence(OTHER_EK, secret), evidence(activated=secret, key=OTHER)):
        assert "tpm.key-binding" in unproven(wrong, asked(kept)) or "tpm.format" in unproven(wrong, asked(kept))
    assert unproven(evidence(activated=secret), asked(answered()[1])) == ["tpm.key-binding"], "of another challenge"
    assert unproven(evidence(activated=secret), asked(kept.replace('"secret": "', '"secret": "0'))) == [
        "tpm.key-binding"]
    assert unproven(Tpm().json(), asked(kept)) == ["tpm.key-binding"], "no certificate of the TPM"


def test_the_challenge_is_more_than_an_enrolled_name_or_a_certificate() -> None:
    """Whoever asks for an answer is not content with less."""
    _, kept = answered()
    leaf = issue("AK", MAKER, Form(authority=False), key=KEY)
    for less in (evidence(), evidence(certificate=leaf.pem)):
        assert "tpm.key-binding" in unproven(less, asked(kept, tpm={"keys": [name(KEY)]}))


@pytest.mark.parametrize(("ek", "why"), [
    (issue("EK", issue("TPM Maker"), Form(authority=False, extensions=EK_USAGE), key=EK.key), "is not signed by"),
    (issue("EK", issue("Stranger"), Form(authority=False, extensions=EK_USAGE), key=EK.key), "0 certificates are of"),
    (issue("EK", MAKER, Form(authority=False), key=EK.key), "not one of an endorsement key"),
    (issue("EK", MAKER, Form(extensions=EK_USAGE), key=EK.key), "is a certificate authority"),
    (issue("EK", MAKER, Form(authority=False, extensions=EK_USAGE, last=NOW.replace(year=2025),
                           first=NOW.replace(year=2024)), key=EK.key), "is valid from"),
])
def test_a_certificate_of_no_tpm_is_not_asked(ek: Issued, why: str) -> None:
    with pytest.raises(NotProven, match=why):
        challenge_for(json.loads(evidence(ek)), asked())
    credential, kept = make_challenge(ek.certificate, NAME)
    assert unproven(evidence(ek, activate(ek.key, credential, NAME)), asked(kept)), "nor believed"


def test_what_is_no_attestation_key_is_not_asked() -> None:
    with pytest.raises(NotProven, match="attributes"):
        challenge_for(json.loads(evidence(attributes=0x00030072)), asked())
    with pytest.raises(NotProven, match="ek_certificate"):
        challenge_for(json.loads(Tpm().json()), asked())
    with pytest.raises(NotChecked, match="no roots"):
        challenge_for(json.loads(evidence()), request())


def test_a_revoked_tpm() -> None:
    secret, kept = answered()
    assert unproven(evidence(activated=secret), replace(
        request(revoke(MAKER, 5), roots=ROOTS), challenge=kept.encode())) == ["tpm.revocation"]


def test_a_revoked_tpm_is_not_asked() -> None:
    with pytest.raises(NotProven, match="EK is revoked"):
        challenge_for(json.loads(evidence()), request(revoke(MAKER, EK.certificate.serial_number), roots=ROOTS))
    assert challenge_for(json.loads(evidence()), request(revoke(MAKER), roots=ROOTS))
    assert challenge_for(json.loads(evidence()), request(revoke(issue("other")), roots=ROOTS)), "a list of others"


def test_a_challenge_is_for_tpms_only() -> None:
    kept = answered()[1]
    assert unproven(Made().virtcca(), replace(request(roots=CCA), challenge=kept.encode())) == ["challenge.format"]


def test_the_commands_from_the_question_to_the_answer(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    valid = Form(first=now - timedelta(days=1), last=now + timedelta(days=1))
    maker = issue("TPM Maker", form=valid)
    ek = issue("EK", maker, replace(valid, authority=False, extensions=EK_USAGE), key=EK.key)
    roots, path, kept = tmp_path / "roots", tmp_path / "evidence.json", tmp_path / "asked" / "challenge.json"
    roots.mkdir()
    (roots / "tpm-maker.pem").write_bytes(maker.pem)
    path.write_bytes(evidence(ek))
    ask = ("attest", "challenge", str(path), "-o", str(kept.parent), "--roots", str(roots))
    result = typed(tmp_path / "state", *ask)
    assert result.exit_code == 0, result.output
    credential = kept.with_name("credential.bin").read_bytes()
    path.write_bytes(evidence(ek, activate(EK.key, credential, NAME)))
    verify = ("attest", "verify", str(path), "--roots", str(roots), "--challenge", str(kept))
    result = typed(tmp_path / "state", *verify)
    assert result.exit_code == 0, result.output
    assert "activated by the TPM of EK <- TPM Maker" in result.stdout
    assert isinstance(typed(tmp_path / "state", *ask).exception, Refused), "nothing is replaced"
    path.write_bytes(Tpm().json())
    assert isinstance(typed(tmp_path / "state", *ask).exception, VerificationFailed)


def test_damaged_collateral_asks_nothing(tmp_path: Path) -> None:
    """The file may be the list that names this TPM."""
    now = datetime.now(UTC)
    valid = Form(first=now - timedelta(days=1), last=now + timedelta(days=1))
    maker = issue("TPM Maker", form=valid)
    roots, path, damaged = tmp_path / "roots", tmp_path / "evidence.json", tmp_path / "crl.der"
    roots.mkdir()
    (roots / "tpm-maker.pem").write_bytes(maker.pem)
    path.write_bytes(evidence(issue("EK", maker, replace(valid, authority=False, extensions=EK_USAGE), key=EK.key)))
    whole = revoke(maker, first=now - timedelta(days=1), last=now + timedelta(days=1))
    ask = ("attest", "challenge", str(path), "--roots", str(roots), "--collateral", str(damaged), "-o")
    damaged.write_bytes(whole[:-1])
    refused = typed(tmp_path / "state", *ask, str(tmp_path / "asked")).exception
    assert isinstance(refused, Refused)
    assert refused.message.startswith("--collateral: ") and damaged.name in refused.message
    assert not (tmp_path / "asked").exists()
    damaged.write_bytes(whole)
    assert typed(tmp_path / "state", *ask, str(tmp_path / "asked")).exit_code == 0
