"""What a server's answer proves: the whole positive way, and whatever else is an answer, refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.snp_signer import signer
from tests.unit.attest.cases import shipped_roots
from tests.unit.attest.make_snp import authorities
from tests.unit.connect.cases import (
    HEAD,
    KEY,
    NONCE,
    SNP,
    UNCONFIDENTIAL,
    answer,
    attested,
    judge,
    policy,
)
from vmtool.attest.server.answer import MEMBERS
from vmtool.attest.server.errors import NotVerified
from vmtool.attest.sort_collateral import sort_collateral
from vmtool.serving.evidence.binding import NO_KEY
from vmtool.serving.evidence.collected import Collected

OTHER = bytes(reversed(KEY))


def test_a_genuine_report_over_nonce_and_key_is_taken(tmp_path: Path) -> None:
    found = judge(answer(), policy(tmp_path, SNP))
    assert (found.key, found.kind, found.confidential, found.title) == (KEY, "snp", True, "AMD SEV-SNP")
    assert {"snp.freshness", "snp.measurement", "snp.signature"} <= {
        claim.id for claim in found.appraisals[0].claims if claim.verdict == "proven"}


def test_the_certificate_may_come_from_the_policy_instead(tmp_path: Path) -> None:
    collateral = sort_collateral([("vcek.der", signer().vcek.der)])
    judge(answer(certificates=None), policy(tmp_path, SNP), collateral=collateral)
    with pytest.raises(NotVerified, match=r"snp\.chain"):
        judge(answer(certificates=None), policy(tmp_path, SNP))


def test_a_server_without_a_tee_is_taken_only_when_the_policy_says_so(tmp_path: Path) -> None:
    honest = answer(ask=lambda bound: None)
    found = judge(honest, policy(tmp_path, UNCONFIDENTIAL))
    assert (found.kind, found.confidential) == ("none", False)
    assert found.title.startswith("NOT CONFIDENTIAL")
    with pytest.raises(NotVerified, match="runs in no TEE, and the policy requires snp"):
        judge(honest, policy(tmp_path, SNP))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a replayed answer": (lambda: answer(OTHER), "another nonce"),
    "a replayed answer with the new nonce written in": (lambda: answer(OTHER, nonce=NONCE.hex()), "snp.binding"),
    "another server's evidence": (lambda: answer(shown=OTHER), "another TLS key"),
    "another server's evidence with our key written in": (lambda: _patched(key=OTHER), "snp.binding"),
    "no key though there is one": (lambda: answer(shown=NO_KEY), "another TLS key"),
    "a debug guest": (lambda: answer(ask=lambda bound: attested(bound, (8, (0xb0000).to_bytes(8, "little")))),
                      "snp.debug"),
    "another guest": (lambda: answer(ask=lambda bound: attested(bound, (0x90, b"\x23" * 48))), "snp.measurement"),
    "another chip": (lambda: answer(ask=lambda bound: attested(bound, (0x1a0, b"\x77" * 8))), "snp.key-binding"),
    "evidence of another kind": (lambda: answer(ask=lambda bound: Collected("tpm", b"{}")), "neither a report"),
    "a manifest instead of evidence": (lambda: answer(ask=lambda bound: Collected("snp", b"<SoftwareIdentity/>")),
                                       "not of the kind 'snp'"),
    "an answer instead of evidence": (lambda: answer(ask=lambda bound: Collected("snp", answer(bound, NO_KEY))),
                                      "neither a report"),
    "a kind that is not the evidence's": (lambda: answer(kind="tdx"), "not of the kind 'tdx'"),
    "no evidence": (lambda: answer(evidence=None), "do not fit"),
    "evidence of no kind": (lambda: answer(kind="none"), "do not fit"),
    "a later version": (lambda: answer(version=3), "version 3"),
    "true as version": (lambda: answer(version=True), "version True"),
    "an unknown member": (lambda: answer(more=1), "unknown keys"),
    "no base64": (lambda: answer(evidence="!"), "refused"),
    "a number as evidence": (lambda: answer(evidence=1), "no text"),
    "a list as kind": (lambda: answer(kind=[]), "no text"),
    "damaged certificates": (lambda: answer(certificates="AAAA"), "the certificates that the server presents"),
    "HTML": (lambda: b"<!DOCTYPE html><p>hello", "refused"),
    "nothing": (lambda: b"", "refused"),
    "a list": (lambda: b"[]", "no object"),
    "brackets": (lambda: b"[" * 200_000, "refused"),
    "a long number": (lambda: b'{"version": ' + b"9" * 10_000 + b"}", "refused"),
    "a key twice": (lambda: answer()[:-1] + b', "nonce": "' + NONCE.hex().encode() + b'"}', "twice"),
    "no text in UTF-8": (lambda: b'{"version": "\xff"}', "refused"),
    "not a number": (lambda: b'{"version": NaN}', "refused"),
}


def _patched(key: bytes) -> bytes:
    return answer(shown=key).replace(key.hex().encode(), KEY.hex().encode())


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_is_refused_for_its_reason(tmp_path: Path, name: str) -> None:
    made, reason = REFUSED[name]
    with pytest.raises(NotVerified) as refused:
        judge(made(), policy(tmp_path, SNP))
    assert reason in refused.value.message


# What a policy with allow_unconfidential takes all the same: it compares evidence with nothing.
TAKEN = ("the new nonce written in", "our key written in", "guest", "chip", "kind", "instead of evidence", "damaged")


@pytest.mark.parametrize("name", [name for name in REFUSED if name in (
    "evidence of no kind", "a list as kind") or not any(word in name for word in TAKEN)])
def test_nonce_key_and_form_count_without_a_tee_as_well(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotVerified):
        judge(REFUSED[name][0](), policy(tmp_path, UNCONFIDENTIAL))


def test_a_root_that_the_policy_does_not_name_is_not_trusted(tmp_path: Path) -> None:
    for roots in (authorities()[2].files["amd-turin.pem"], shipped_roots().files["amd-turin.pem"], b""):
        with pytest.raises(NotVerified):
            judge(answer(), policy(tmp_path, SNP), roots=roots)


def test_each_byte_of_the_report_counts(tmp_path: Path) -> None:
    report, wanted = attested(NONCE).evidence, policy(tmp_path, SNP)
    for place in range(0, len(report), 97):
        changed = report[:place] + bytes((report[place] ^ 1,)) + report[place + 1:]
        with pytest.raises(NotVerified):
            judge(answer(evidence=base64.b64encode(changed).decode()), wanted)


def test_values_for_another_tee_let_no_report_pass(tmp_path: Path) -> None:
    wanted = policy(tmp_path, f"{HEAD}reference: {{virtcca: {{rim: '{'22' * 32}'}}}}")
    with pytest.raises(NotVerified):
        judge(answer(), wanted)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(sorted(MEMBERS)), inner), max_leaves=12))
def test_no_odd_document_is_taken_or_is_a_fault(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    wanted = policy(tmp_path_factory.mktemp("policy"), SNP)
    with pytest.raises(NotVerified):
        judge(json.dumps(value).encode(), wanted)
