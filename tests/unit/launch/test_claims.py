"""Claims about a running instance: proven and failed by what the kernel says, not-checked when it does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.launch.cases import CHAIN, RECORD
from vmtool.engine.journal import JournalState
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.claims import read_claims
from vmtool.machine import FilePiece, Output

STATUS = """Name:\tpython3
Uid:\t65532\t65532\t65532\t65532
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2
"""
FILES = {
    "/proc/7/status": STATUS,
    "/proc/7/mountinfo": "1 2 0:3 / /proc rw - proc proc rw\n4 1 0:5 / / ro,relatime - overlay overlay rw\n",
    "/proc/7/cgroup": "4:memory:/vmtool-a\n8:pids:/vmtool-a\n0::/\n",
    "/sys/fs/cgroup/pids/vmtool-a/pids.max": "16384\n",
    "/sys/fs/cgroup/memory/vmtool-a/memory.limit_in_bytes": "4096\n",
    "/i/a/evidence/canary.json": json.dumps({"right": True, "answer": "yes"}),
}


class Proc:
    """A machine of a few files."""

    def __init__(self, files: dict[str, str], netns: str | None = "vmtool-a\n", parent: str | None = CHAIN) -> None:
        self.files, self.netns, self.parent = files, netns, parent

    def text(self, path: str) -> str | None:
        return self.files.get(path)

    def piece(self, path: str, start: int, size: int) -> FilePiece | None:
        return None

    def names(self, path: str) -> tuple[str, ...]:
        return ()

    def link(self, path: str) -> str | None:
        return None

    def exists(self, path: str) -> bool:
        return path in self.files

    def which(self, program: str) -> str | None:
        return None

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        if argv[-3:] == ("snapshots", "info", "a"):
            return None if self.parent is None else Output(0, json.dumps({"Parent": self.parent}), "")
        assert argv == ("ip", "netns", "identify", "7")
        return None if self.netns is None else Output(0, self.netns, "")

    def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
        return {}


def verdicts(proc: Proc, pid: int | None = 7, record: InstanceRecord = RECORD) -> dict[str, str]:
    instance = Instance("a", Paths(Path("/i/a")), record, "running", pid, JournalState())
    return {claim.id: claim.verdict for claim in read_claims(proc, instance)}


def test_a_hardened_container_is_proven_and_yet_not_confidential() -> None:
    seen = verdicts(Proc(FILES))
    assert seen.pop("tee") == "failed"
    assert set(seen.values()) == {"proven"}
    assert len(seen) == 11


@pytest.mark.parametrize(("file", "old", "new", "claim"), [
    ("/proc/7/status", "CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb", "process.no-capabilities"),
    ("/proc/7/status", "NoNewPrivs:\t1", "NoNewPrivs:\t0", "process.no-new-privileges"),
    ("/proc/7/status", "Seccomp:\t2", "Seccomp:\t0", "process.seccomp-filter"),
    ("/proc/7/status", "Uid:\t65532\t65532", "Uid:\t65532\t0", "process.not-root"),
    ("/proc/7/mountinfo", "/ / ro,relatime", "/ / rw,relatime", "rootfs.read-only"),
    ("/sys/fs/cgroup/memory/vmtool-a/memory.limit_in_bytes", "4096", "9223372036854771712", "memory.limit"),
    ("/sys/fs/cgroup/pids/vmtool-a/pids.max", "16384", "max", "pids.limit"),
    ("/i/a/evidence/canary.json", "true", "false", "canary"),
])
def test_what_is_otherwise_fails(file: str, old: str, new: str, claim: str) -> None:
    assert old in FILES[file]
    seen = verdicts(Proc(FILES | {file: FILES[file].replace(old, new)}))
    assert {name for name, verdict in seen.items() if verdict == "failed"} == {claim, "tee"}


@pytest.mark.parametrize(("file", "claims"), [
    ("/proc/7/status", {"process.no-capabilities", "process.no-new-privileges", "process.seccomp-filter",
                        "process.not-root"}),
    ("/proc/7/mountinfo", {"rootfs.read-only"}),
    ("/proc/7/cgroup", {"memory.limit", "pids.limit"}),
    ("/i/a/evidence/canary.json", {"canary"}),
])
def test_what_cannot_be_looked_at_is_never_proven(file: str, claims: set[str]) -> None:
    seen = verdicts(Proc({name: text for name, text in FILES.items() if name != file}))
    assert {name for name, verdict in seen.items() if verdict == "not-checked"} == claims


@pytest.mark.parametrize(("parent", "verdict"), [("sha256:" + "0" * 64, "failed"), ("", "failed"),
                                                 (None, "not-checked")])
def test_a_container_of_another_image_fails(parent: str | None, verdict: str) -> None:
    """Its name was moved between the plan and the start."""
    assert verdicts(Proc(FILES, parent=parent))["image.digest"] == verdict


def test_a_container_in_another_namespace_fails() -> None:
    assert verdicts(Proc(FILES, netns=""))["network.own-namespace"] == "failed"
    assert verdicts(Proc(FILES, netns=None))["network.own-namespace"] == "not-checked"


def test_a_dead_container_fails() -> None:
    assert verdicts(Proc(FILES), pid=None) == {"process.running": "failed", "canary": "proven"}


@pytest.mark.parametrize(("files", "words"), [({}, "spec.tls.source: guest"),
                                              ({"/i/a/secret/tls/own-key": ""}, "given to nobody")])
def test_who_has_the_key_of_tls_is_told_and_proven_by_nothing_here(files: dict[str, str], words: str) -> None:
    instance = Instance("a", Paths(Path("/i/a")), dataclasses.replace(RECORD, tls=True), "running", 7, JournalState())
    [claim] = [each for each in read_claims(Proc(FILES | files), instance) if each.id == "tls.key"]
    assert claim.verdict == "not-checked"
    assert words in claim.evidence
