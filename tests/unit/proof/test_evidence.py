"""What is kept of a look: its claims, what of them was asked for and failed, and digests of what they rest on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.launch.cases import RECORD
from vmtool.claims import Claim, unmet
from vmtool.engine.journal import JournalState
from vmtool.errors import VmtoolError
from vmtool.instance.instance import Instance, Paths
from vmtool.paths import State
from vmtool.proof.evidence import evidence_text, keep_evidence

CLAIMS = (Claim("process.running", "proven", "pid 7"), Claim("tee", "failed", "NOT CONFIDENTIAL"),
          Claim("canary", "not-checked", "no question"))


def test_the_document() -> None:
    document = json.loads(evidence_text(RECORD, CLAIMS, {"b": "2", "a": "1"}, 0.0))
    assert document["schema"] == "vmtool/evidence/v1"
    assert document["at"] == "1970-01-01T00:00:00Z"
    assert document["claims"][0] == {"id": "process.running", "verdict": "proven", "evidence": "pid 7"}
    assert list(document["files"]) == ["a", "b"]
    assert (document["instance"], document["tee"], document["unmet"]) == ("a", "none", [])


def test_a_missing_tee_is_unmet_only_where_one_was_asked_for() -> None:
    assert unmet(CLAIMS, confidential=False) == []
    assert unmet(CLAIMS, confidential=True) == ["tee"]
    assert json.loads(evidence_text(replace(RECORD, tee="snp"), CLAIMS, {}, 0.0))["unmet"] == ["tee"]


def instance(state: State) -> Instance:
    paths = Paths(state.instance("a"))
    for name, text in {"spec.json": "{}", "secret/api-key": "k", "log/guest.log": "l", "kata/configuration.toml": "x",
                       "evidence/qemu.txt": "q"}.items():
        (paths.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (paths.directory / name).write_text(text)
    record = replace(RECORD, details={"rendered": str(paths.kata)})
    return Instance("a", paths, record, "running", 7, JournalState())


def test_it_is_kept_for_nobody_else_with_digests_of_all_but_secrets_and_logs(tmp_path: Path) -> None:
    state = State(tmp_path)
    path = keep_evidence(state, instance(state), CLAIMS, "test")
    assert path.stat().st_mode & 0o777 == 0o600
    first = json.loads(path.read_text())
    assert set(first["files"]) == {"spec.json", "kata/configuration.toml", "evidence/qemu.txt"}
    assert first["files"]["evidence/qemu.txt"] == hashlib.sha256(b"q").hexdigest()
    keep_evidence(state, instance(state), CLAIMS[:1], "test")
    assert [claim["id"] for claim in json.loads(path.read_text())["claims"]] == ["process.running"]


def test_an_instance_that_was_removed_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    gone = Instance("a", Paths(State(tmp_path).instance("a")), RECORD, "running", 7, JournalState())
    with pytest.raises(VmtoolError, match="was removed in the meantime"):
        keep_evidence(State(tmp_path), gone, CLAIMS, "test")
    assert not gone.paths.directory.exists()
