"""Revocation lists in collateral that several kinds of evidence share: each is compared with those of its maker."""

from __future__ import annotations

import base64
from dataclasses import replace

from tests.unit.attest.cases import request
from tests.unit.attest.make_certificates import Form, Issued, issue, revoke
from tests.unit.attest.make_nvidia import DICE, FIRMWARE, RIM_ROOT, ROOT, Device
from tests.unit.attest.make_nvidia import ROOTS as NVIDIA
from tests.unit.attest.make_snp import authorities, make
from vmtool.attest.recognise import appraise_pieces, recognise
from vmtool.attest.request import Request, Roots

ARK, ASK, AMD = authorities()
ROOTS = Roots({**AMD.files, **NVIDIA.files})
REPORT, VCEK = make()
MIDDLE = issue("NVIDIA GH100 Provisioner", ROOT, Form(serial=50))
LEAF = issue("GH100 below", MIDDLE, Form(authority=False, serial=51, extensions=[("2.23.133.5.4.1", DICE + FIRMWARE)]))
BELOW = Device(issued=LEAF, more={
    "certificate": base64.b64encode(LEAF.pem + MIDDLE.pem + ROOT.pem).decode()})


def given(*collateral: bytes) -> Request:
    return request(VCEK, *collateral, roots=ROOTS)


def unproven(asked: Request, *evidence: bytes) -> list[str]:
    pieces = [piece for data in evidence for piece in recognise(data)]
    return [name for each in appraise_pieces(pieces, asked) for name in each.unproven]


def test_each_kind_is_compared_with_its_makers_lists() -> None:
    for device in (Device().json(), BELOW.json()):
        for lists in ([revoke(ARK)], [revoke(ROOT)], [revoke(ARK), revoke(ROOT)],
                      [revoke(RIM_ROOT), revoke(ARK), revoke(ROOT)]):
            assert unproven(given(*lists), REPORT, device) == []
    assert unproven(given(revoke(ARK, 77), revoke(ROOT)), REPORT, Device().json()) == ["snp.revocation"]
    assert unproven(given(revoke(ARK), revoke(ROOT, 32)), REPORT, Device().json()) == ["nvidia0.revocation"]


def test_an_authority_may_have_come_with_the_evidence() -> None:
    assert unproven(given(revoke(MIDDLE)), REPORT, BELOW.json()) == []
    assert unproven(given(revoke(MIDDLE, 51)), REPORT, BELOW.json()) == ["nvidia0.revocation"]
    assert unproven(given(MIDDLE.der, revoke(MIDDLE)), REPORT, BELOW.json()) == []


def test_a_list_that_is_of_no_kind_here_is_not_passed_over() -> None:
    both = ["snp.revocation", "nvidia0.revocation"]
    forged = [revoke(ARK, signer=issue("x", key=ASK.key)), revoke(issue("stranger")), revoke(below(issue("other CA")))]
    for crl in forged[1:]:
        assert unproven(given(crl), REPORT, Device().json()) == both
    assert unproven(given(forged[0]), REPORT, Device().json()) == both, "of AMD's name, and not AMD's"


def below(root: Issued) -> Issued:
    """Of the name of an authority that is trusted, and of another's."""
    return issue("NVIDIA GH100 Provisioner", root, Form(serial=50))


def test_evidence_alone_is_not_proven_with_a_list_of_others() -> None:
    assert unproven(given(revoke(ROOT)), REPORT) == ["snp.revocation"]
    assert unproven(request(revoke(ARK), roots=ROOTS), Device().json()) == ["nvidia0.revocation"]
    several = replace(given(revoke(ROOT)), beside=frozenset({"nvidia"}))
    assert unproven(several, REPORT) == [], "the collateral is for devices as well"
    assert unproven(replace(several, beside=frozenset({"cca", "tpm", "snp"})), REPORT) == ["snp.revocation"]


def test_a_root_of_two_kinds_lists_for_both() -> None:
    shared = Roots({**ROOTS.files, "nvidia-device-more.pem": ARK.pem})
    assert unproven(replace(given(revoke(ARK)), roots=shared), REPORT, Device().json()) == ["nvidia0.revocation"]
