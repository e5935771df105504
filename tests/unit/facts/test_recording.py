"""A machine is asked once for each thing, and what it said can stand in for it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import wish
from vmtool.doctor.host import read_host
from vmtool.facts.recording import KEPT, RecordingReader
from vmtool.machine import FilePiece


class Counting(Recorded):
    """A recorded host that counts what it is asked."""

    asked: Counter[tuple[Any, ...]]

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.asked = Counter()

    def text(self, path: str) -> str | None:
        self.asked["text", path] += 1
        return super().text(path)

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Any:
        self.asked["run", argv] += 1
        return super().run(argv, deadline)


@pytest.mark.parametrize("name", ["debian12-pvm", "epyc-snp", "kunpeng-virtcca"])
def test_the_facts_of_a_record_are_those_that_were_read(name: str) -> None:
    machine = Counting(Recorded.load(name).data)
    reader = RecordingReader(machine)
    facts = read_host(reader, Path("/s"))
    assert read_host(reader, Path("/s")) == facts
    assert max(machine.asked.values()) == 1, "each thing is asked for once"
    assert read_host(Recorded(json.loads(reader.recorded())), Path("/s")) == facts


def test_a_record_keeps_what_udev_knew() -> None:
    known = {"/sys/bus/pci/devices/0000:18:00.0": {"ID_MODEL_FROM_DATABASE": "GH100"}}
    reader = RecordingReader(Recorded({"udev": known}))
    assert reader.udev("/sys/bus/pci/devices/0000:18:00.0") == {"ID_MODEL_FROM_DATABASE": "GH100"}
    assert reader.udev("/sys/bus/pci/devices/0000:19:00.0") == {}
    assert json.loads(reader.recorded())["udev"] == known


def test_a_record_is_bounded_and_leaves_other_processes_out() -> None:
    texts = {"/proc/7/cmdline": "--token\0secret\0", "/etc/long": "x" * (KEPT + 1)}
    reader = RecordingReader(Recorded({"texts": texts}))
    assert reader.text("/proc/7/cmdline") and len(reader.text("/etc/long") or "") == KEPT + 1
    kept = json.loads(reader.recorded())["texts"]
    assert (list(kept), len(kept["/etc/long"])) == (["/etc/long"], KEPT)


def test_a_file_with_secrets_is_read_and_not_kept() -> None:
    """A key that a spec names is checked while planning: the facts of a launch are kept, and handed out in bundles."""
    spec = wish(vllm={"api_key_file": "/etc/vmtool/keys"},
                tls={"source": "files", "certificate": "/c.pem", "key": "/k.pem"})
    assert spec.secret_files == {"/etc/vmtool/keys", "/k.pem"}
    assert wish(model={"name": "m", "path": "/m", "encryption": {"signer": "/s.jwk", "key": {"file": "/m.jwk"}}}
                ).secret_files == {"/m.jwk"}
    machine = Recorded({"texts": {"/etc/vmtool/keys": "hunter2hunter2hunter2", "/c.pem": "public"},
                        "pieces": {"/k.pem": {"size": 7, "0": b"hunter2".hex()}}})
    reader = RecordingReader(machine, spec.secret_files)
    assert (reader.text("/etc/vmtool/keys"), reader.text("/c.pem")) == ("hunter2hunter2hunter2", "public")
    assert reader.piece("/k.pem", 0, 99) == FilePiece(7, b"hunter2")
    kept = json.loads(reader.recorded())
    assert (kept["texts"], kept["pieces"]) == ({"/c.pem": "public"}, {})
