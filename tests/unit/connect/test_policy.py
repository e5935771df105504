"""The policy: strict, and no policy that would let any guest pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.connect.cases import HEAD, SNP, UNCONFIDENTIAL, policy
from vmtool.errors import Refused

MRTD = "mrtd: '00', rtmr1: '00', rtmr2: '00'"


def test_a_policy_is_read_and_its_paths_are_of_its_directory(tmp_path: Path) -> None:
    read = policy(tmp_path, f"{SNP}max_age: 60\nroots: roots\nca: /etc/ca.pem\ncollateral: [a.der, ./b.crl]\n")
    assert (read.expects, read.max_age, read.allow_unconfidential) == ("snp", 60, False)
    assert (read.roots, read.ca) == (tmp_path / "roots", Path("/etc/ca.pem"))
    assert read.collateral == (tmp_path / "a.der", tmp_path / "b.crl")
    assert policy(tmp_path, UNCONFIDENTIAL).expects == ""
    several = policy(tmp_path, f"{HEAD}reference: {{snp: {{measurement: ['aa', 'bb'], min_tcb: {{snp: 2}}}}}}")
    assert several.reference.snp.measurement == (b"\xaa", b"\xbb")
    assert policy(tmp_path, f"{HEAD}reference: {{tdx: {{{MRTD}}}}}").expects == "tdx"
    assert policy(tmp_path, f"{HEAD}allow_unconfidential: true\nreference:\n  tpm: {{pcrs: {{sha256: {{4: 'aa'}}}}}}"
                  ).expects == "tpm"


@pytest.mark.parametrize(("text", "reason"), [
    (HEAD, "no values of a TEE (reference.cca, reference.snp, reference.tdx, reference.virtcca)"),
    (f"{HEAD}reference: {{snp: {{product: Turin}}}}", "reference.snp.measurement is missing: any guest would pass"),
    (f"{HEAD}reference: {{tdx: {{mrtd: '00'}}}}", "reference.tdx.rtmr1 is missing"),
    (f"{HEAD}reference: {{virtcca: {{rem: '00'}}}}", "reference.virtcca.rim is missing"),
    (f"{HEAD}reference: {{tpm: {{pcrs: {{sha256: {{4: 'aa'}}}}}}}}", "no values of a TEE"),
    (f"{HEAD}allow_unconfidential: true\nreference: {{tpm: {{keys: 'aa'}}}}", "reference.tpm.pcrs is missing"),
    (f"{HEAD}reference: {{nvidia: {{driver: '1'}}}}", "reference.nvidia goes beside the values of a TEE"),
    (f"{SNP}  tdx: {{{MRTD}}}", "values for snp and tdx"),
    (f"{SNP}allow_unconfidential: true", "would say nothing"),
    (f"{SNP}allow_unconfidental: true", "5: allow_unconfidental: unknown key; did you mean 'allow_unconfidential'?"),
    (f"{SNP}max_age: 5", "5: max_age: "), (f"{SNP}max_age: '60'", "5: max_age: "),
    (f"{SNP}max_age: 1_0", "5: max_age: "),
    (f"{SNP}roots: ''", "5: roots: "), (f"{SNP}collateral: a", "5: collateral: "),
    (f"{HEAD}allow_unconfidential: yes", "3: allow_unconfidential: "),
    (f"{HEAD}allow_unconfidential: 'true'", "3: allow_unconfidential: "),
    ("kind: ConnectPolicy\nallow_unconfidential: true", "apiVersion"),
    ("apiVersion: vmtool/v2\nkind: ConnectPolicy\nallow_unconfidential: true", "1: apiVersion: "),
    ("apiVersion: vmtool/v1\nkind: Reference\nallow_unconfidential: true", "2: kind: "),
    (f"{HEAD}reference: {{snp: {{measurement: 'AA'}}}}", "lower-case hexadecimal"),
    (f"{HEAD}reference: {{snp: {{measurment: 'aa'}}}}", "reference.snp.measurment: unknown key"),
    (f"{UNCONFIDENTIAL}allow_unconfidential: false", "occurs twice"),
    ("", "empty"), ("- a", "not a mapping"), ("a: [", "not YAML"), ("a: &a [*a]", "contains itself"),
    ("a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
     "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]", "too many or too deeply nested"),
])
def test_what_is_no_policy_is_refused_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        policy(tmp_path, text)
    assert reason in "\n".join((refused.value.message, *refused.value.details))


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="3 problems") as refused:
        policy(tmp_path, f"{HEAD}max_age: 1\nrots: x\nreference: {{snp: {{max_vmpl: 9}}}}")
    assert [line.split(":")[1] for line in refused.value.details] == ["3", "4", "5"]
