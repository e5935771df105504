"""What is kept of a machine's answers: enough to make the claims of every kind of guest again, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proc import Proc
from tests.fakes.threads import exited_leader
from tests.unit.kata.cases import FILES, RECORD
from tests.unit.qemu.cases import argv
from vmtool.attest.appraisal import NotProven
from vmtool.bundle.observed import ObservingReader, ReplayingReader, observed_text
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.claims import read_whole_claims

STRANGER = ("/usr/bin/mysqld", ["mysqld", "--password=hunter2"])
OTHER_GUEST = (FILES[0], [word.replace("sandbox-chat", "sandbox-other") for word in argv("snp")])
GUEST = (FILES[0], argv("snp-gpu"))


def named_for_libvirt(guest: tuple[str, list[str]]) -> tuple[str, list[str]]:
    return guest[0], [word.replace("sandbox-chat", "guest=vmtool-chat") for word in guest[1]]


@pytest.mark.parametrize("pid", [9, None])
@pytest.mark.parametrize("handler", ["kata", "libvirt"])
def test_the_claims_follow_again_and_other_processes_are_nobodys_business(handler: str, pid: int | None) -> None:
    guest = named_for_libvirt(GUEST) if handler == "libvirt" else GUEST
    details: dict[str, Any] = {**RECORD.details, "rendered": "/i/chat/kata/configuration.toml", "channel": "/c.sock"}
    record = replace(RECORD, handler=handler, devices=("0000:41:00.0",), details=details)
    machine = Proc({9: guest, 20: STRANGER, 21: OTHER_GUEST}, {"/i/chat/kata/configuration.toml": "text",
                                                               **exited_leader(22)})
    machine.processes[22] = STRANGER
    instance = Instance("chat", Paths(Path("/i/chat")), record, "running" if pid else "stopped", pid)
    reader = ObservingReader(machine)
    claims = read_whole_claims(reader, instance)
    files = {"/i/chat/kata/configuration.toml": b"text"}
    text = observed_text(reader.answers, files)
    assert read_whole_claims(ReplayingReader(text.encode(), files), instance) == claims
    assert len(claims) > 3 and "/proc/9/cmdline" in text
    for private in ("hunter2", "mysqld", "sandbox-other", "/proc/20", '"20"', "/proc/22"):
        assert private not in text
    if pid:
        with pytest.raises(NotProven, match=r"nothing was observed of text /i/chat/kata/configuration\.toml"):
            read_whole_claims(ReplayingReader(text.encode(), {}), instance)


def test_of_a_status_only_what_lasts_is_seen() -> None:
    machine = Proc({}, {"/proc/7/status": "Name:\tx\nVmRSS:\t1 kB\nUid:\t1\t1\t1\t1\nvoluntary_ctxt_switches:\t9\n",
                        "/proc/meminfo": "VmRSS:\t1 kB\n"})
    reader = ObservingReader(machine)
    assert reader.text("/proc/7/status") == "Name:\tx\nUid:\t1\t1\t1\t1\n"
    assert reader.text("/proc/meminfo") == "VmRSS:\t1 kB\n"
