"""The mark of vmtool's own leases: a time zone that `ctr` takes for its own."""

from __future__ import annotations

import datetime
import io
import re
import zoneinfo
from pathlib import Path

import pytest

from vmtool.containerd.actions import WriteZone
from vmtool.containerd.leases import LeaseMark, lease_mark
from vmtool.paths import State

MARKS = {str(root): lease_mark(State(Path(root)), Path("/i")) for root in ("/var/lib/vmtool", "/a", "/b", "/c")}


def zone_of(mark: LeaseMark) -> zoneinfo.ZoneInfo:
    return zoneinfo.ZoneInfo.from_file(io.BytesIO(WriteZone(mark.zone, mark.west).data))


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
def test_the_filter_finds_what_a_program_with_that_zone_writes_and_nobody_elses(mark: LeaseMark) -> None:
    pattern = re.fullmatch(r'labels\."containerd\.io/gc\.expire"~="(.*)"', mark.filter)
    assert pattern
    now = datetime.datetime(2026, 11, 26, 12, tzinfo=datetime.UTC)
    mine = [zone_of(each) for each in MARKS.values() if each != mark]
    assert re.search(pattern[1], now.astimezone(zone_of(mark)).isoformat())
    real = {now.astimezone(zoneinfo.ZoneInfo(name)).isoformat() for name in zoneinfo.available_timezones()}
    assert len(real) > 20, "this machine has no time zones"
    others = {now.isoformat(), "2026-11-26T12:00:00Z", *real,
              *(now.astimezone(zone).isoformat() for zone in mine)}
    assert not [text for text in others if re.search(pattern[1], text)]


def test_each_state_directory_has_a_mark_of_its_own_and_always_the_same() -> None:
    assert len({mark.west for mark in MARKS.values()}) == len(MARKS)
    marks = [lease_mark(State(Path(f"/state-{number}")), Path("/i")).west for number in range(2000)]
    assert all(12 * 60 < west < 24 * 60 for west in marks)
    assert len(set(marks)) > 600
