"""The image that a guest runs: its bytes and its root hash, against the manifest of its build."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.plans import is_for
from tests.fakes.proc import Proc
from tests.unit.kata.cases import FILES, RECORD
from tests.unit.qemu.cases import argv
from vmtool.engine.journal import JournalState
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.claims import read_claims
from vmtool.machine import Output
from vmtool.proof.image import bytes_claim, read_promise
from vmtool.rootfs.format.workers import digest

IMAGE = "/opt/kata/share/kata-containers/kata-containers-confidential.img"
ROOT, OTHER = "ab" * 32, "cd" * 32
VERITY = "root_hash={},salt=00,data_blocks=1,data_block_size=4096,hash_block_size=4096"
CONFIG = f"""[hypervisor.qemu]
image = "{IMAGE}"
kernel_params = "quiet"
kernel_verity_params = "{VERITY}"
"""


def manifest(**values: object) -> dict[str, str]:
    return {f"{IMAGE}.manifest.json": json.dumps(values)}


class Hashing(Proc):
    """Every file has this digest."""

    digest = "11" * 32

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return Output(0, f"{self.digest}\n", "") if is_for(argv, digest) else None


def verdicts(files: dict[str, str], *, root: str = ROOT, words: list[str] | None = None, whole: bool = False,
             ) -> dict[str, str]:
    config = CONFIG.format(root) if root else CONFIG.replace(VERITY, "")
    record = replace(RECORD, details={**RECORD.details,
                                      "configuration": hashlib.sha256(config.encode()).hexdigest()})
    instance = Instance("chat", Paths(Path("/i/chat")), record, "running", 9, JournalState(state="applied"))
    words = words or argv("snp")
    reader = Hashing({9: (FILES[0], words)}, {"/i/chat/kata/configuration.toml": config, **files})
    return {claim.id: claim.verdict for claim in read_claims(reader, instance, whole=whole)}


def with_root_hash(root: str) -> list[str]:
    words = argv("snp")
    table = f"dm-verity,,,ro,0 8 verity 1 a b 4096 4096 1 0 sha256 {root} 00"
    words[words.index("-append") + 1] += f' dm-mod.create="{table}"'
    return words


def test_the_image_that_runs_is_the_one_that_was_rendered() -> None:
    found = verdicts({})
    assert (found["vm.image"], found["vm.kernel-params"]) == ("proven", "proven")
    other = [word.replace("kata-containers-confidential.img", "other.img") for word in argv("snp")]
    assert verdicts({}, words=other)["vm.image"] == "failed"
    assert verdicts({}, words=[word.replace("quiet", "loud") for word in argv("snp")])["vm.kernel-params"] == "failed"


@pytest.mark.parametrize(("root", "promised", "passed", "verdict"), [
    (ROOT, ROOT, ROOT, "proven"), (ROOT, "", ROOT, "proven"), (ROOT, OTHER, ROOT, "failed"),
    (ROOT, ROOT, "", "failed"), ("", ROOT, "", "not-checked"), ("", ROOT, ROOT, "proven"), ("", "", "", "not-checked"),
])
def test_the_root_hash(root: str, promised: str, passed: str, verdict: str) -> None:
    files = manifest(verity={"root_hash": promised}) if promised else {}
    assert verdicts(files, root=root, words=with_root_hash(passed))["image.root-hash"] == verdict


@pytest.mark.parametrize(("files", "whole", "verdict"), [
    (manifest(sha256=Hashing.digest), True, "proven"), (manifest(content=Hashing.digest), True, "proven"),
    (manifest(sha256=OTHER), True, "failed"), ({}, True, "not-checked"), (manifest(sha256=OTHER), False, "not-checked"),
    ({f"{IMAGE}.manifest.json": "[]"}, True, "not-checked"),
])
def test_its_bytes_are_read_only_when_asked_for(files: dict[str, str], whole: bool, verdict: str) -> None:
    assert verdicts(files, whole=whole)["image.bytes"] == verdict


def test_an_image_that_cannot_be_read_proves_nothing() -> None:
    claim = bytes_claim(Proc({}), IMAGE, read_promise(Proc({}, manifest(sha256=OTHER)), IMAGE), whole=True)
    assert claim.verdict == "not-checked"


def test_a_configuration_that_was_changed_is_not_believed() -> None:
    instance = Instance("chat", Paths(Path("/i/chat")), RECORD, "running", 9, JournalState(state="applied"))
    reader = Hashing({9: (FILES[0], argv("snp"))}, {"/i/chat/kata/configuration.toml": CONFIG.format(ROOT)})
    found = {claim.id: claim.verdict for claim in read_claims(reader, instance)}
    assert found["configuration.unchanged"] == "failed"
    assert "vm.image" not in found
