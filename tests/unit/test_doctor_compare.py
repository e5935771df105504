"""`vmtool doctor --compare`: what counts as a difference, and files that are none of ours."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.doctor.commands import document
from vmtool.doctor.compare import ABSENT, LIMIT, Difference, differences, read_document
from vmtool.doctor.diagnose import diagnose
from vmtool.doctor.host import read_host
from vmtool.errors import Refused


def doctor(host: str, **changes: dict[str, Any]) -> dict[str, Any]:
    """The document as it comes out of a file."""
    facts = read_host(Recorded.load(host, **changes), "/var/lib/vmtool")
    made = document(facts, diagnose(facts, "kata", "snp"), "kata", "snp")
    loaded: dict[str, Any] = json.loads(json.dumps({"schema": "vmtool/v1", **made}))
    return loaded


def test_a_host_does_not_differ_from_itself() -> None:
    assert differences(doctor("epyc-snp"), doctor("epyc-snp")) == ()


@pytest.mark.parametrize("changes", [
    {"texts": {"/proc/meminfo": "MemTotal: 805306368 kB\nMemAvailable: 99999999 kB\nHugepagesize: 2048 kB\n"}},
    {"outputs": {"stat -f -c '%a %S %T' /var/lib": {"out": f"{1000 << 18} 4096 xfs\n"}}},
    {"outputs": {"ss -Htln": {"out": "LISTEN 0 128 0.0.0.0:22 0.0.0.0:*\n"}}},
    {"outputs": {"ip -j route show table all": {"out": '[{"dst":"10.1.0.0/16","dev":"eth9"}]\n'}}},
    {"outputs": {"python -I -m vmtool.facts.kvm_probe": {"out": json.dumps(
        {"stage": "run", "machine": "x86_64", "api": 12, "virtcca_extension": 0, "guest": "halted", "seconds": 0.0002,
         "instructions": 200002})}}},
], ids=["memory", "disk", "listener", "route", "speed of the probe"])
def test_what_passes_is_no_difference(changes: dict[str, Any]) -> None:
    assert differences(doctor("epyc-snp"), doctor("epyc-snp", **changes)) == ()


def test_difference_in_facts_and_findings_by_path() -> None:
    ours = doctor("epyc-snp", texts={"/sys/module/kvm_amd/parameters/sev_snp": "N\n"},
                  outputs={"uname -r": {"out": "6.8.0\n"}})
    found = {item.path: (item.theirs, item.ours) for item in differences(doctor("epyc-snp"), ours)}
    assert found["facts.tee.snp.available"] == ("true", "false")
    assert found["findings.tee.snp.level"] == ('"ok"', '"fail"')
    assert found["facts.kernel.release"] == ('"6.11.0-29-generic"', '"6.8.0"')
    assert not any(path.endswith((".detail", ".hint")) for path in found)


def test_finding_that_one_side_lacks() -> None:
    ours = doctor("epyc-snp")
    ours["findings"] = [item for item in ours["findings"] if item["id"] != "kata.config"]
    assert differences(doctor("epyc-snp"), ours) == (Difference("findings.kata.config.level", '"ok"', ABSENT),)
    assert differences(ours, doctor("epyc-snp")) == (Difference("findings.kata.config.level", ABSENT, '"ok"'),)


def test_order_of_findings_does_not_matter() -> None:
    ours = doctor("epyc-snp")
    ours["findings"].reverse()
    assert differences(doctor("epyc-snp"), ours) == ()


def write(path: Path, change: Any) -> Path:
    made = copy.deepcopy(doctor("epyc-snp"))
    change(made)
    path.write_text(json.dumps(made))
    return path


def test_document_comes_back(tmp_path: Path) -> None:
    assert read_document(write(tmp_path / "good.json", lambda made: None)) == doctor("epyc-snp")


@pytest.mark.parametrize(("change", "words"), [
    (lambda made: made.update(schema="vmtool/v9"), "its schema is 'vmtool/v9', not 'vmtool/v1'"),
    (lambda made: made.pop("schema"), "its schema is 'None'"),
    (lambda made: made.update(kind="plan"), "its kind is 'plan', not 'doctor'"),
    (lambda made: made.update(facts=[]), "it has no facts"),
    (lambda made: made.pop("findings"), "it has no findings"),
    (lambda made: made.update(findings=["x"]), "it has no findings"),
    (lambda made: made.update(findings=[{"level": "ok"}]), "it has no findings"),
])
def test_foreign_document(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(Refused, match="is not a document of vmtool doctor") as raised:
        read_document(write(tmp_path / "foreign.json", change))
    assert words in raised.value.message
    assert raised.value.hint == "make one on the good host: vmtool doctor --json > FILE"


@pytest.mark.parametrize(("data", "words"), [
    (b"", "is not JSON"),
    (b"\x89PNG\r\n\x00\xff", "is not JSON"),
    (b'{"schema": ', "is not JSON"),
    (b"[" * 200_000, "is not JSON"),
    (b"[1, 2]", "not an object"),
    (b"null", "not an object"),
    (b"9" * 5000, "is not JSON"),
], ids=["empty", "binary", "cut off", "deep", "list", "null", "huge number"])
def test_broken_file(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(data)
    with pytest.raises(Refused, match=words):
        read_document(path)


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(Refused, match="larger than 16 MiB"):
        read_document(path)


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="No such file"):
        read_document(tmp_path / "absent")
    with pytest.raises(Refused, match="not a regular file"):
        read_document(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Refused, match="not a regular file"):
        read_document(tmp_path / "pipe")
