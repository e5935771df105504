"""What /proc says of a process."""

from __future__ import annotations

import pytest

from tests.fakes.threads import stat
from vmtool.procfs import mount_points, start_of, state_of


@pytest.mark.parametrize(("text", "started"), [
    (stat(7, "S", 1), "77"), (stat(7, "D", 9), "77"), (stat(7, "Z", 1), None), (stat(7, "Z", 0), None),
    (stat(7, "Z", 2), "77"), (stat(7, "X", 0), None), ("", None), ("7 (a) S 1", None)])
def test_a_process_has_ended_when_its_last_thread_has(text: str, started: str | None) -> None:
    assert start_of(text) == started


def test_a_state_stands_behind_the_programs_name() -> None:
    assert [state_of(text) for text in (stat(7, "R"), "7 (x) D 1", "7 (x)", "")] == ["R", "D", "", ""]


def test_a_mount_point_is_named_as_it_is_called() -> None:
    """The kernel writes a blank, tab, line break or backslash of it in octal, and nothing else."""
    table = ("22 27 0:21 / /proc rw,relatime shared:1 - proc proc rw\n"
             r"23 27 0:22 /a\040b /srv/vm\040tool/a\011b\012c\134d rw - ext4 /dev/vda rw" "\n"
             "24 27 0:23 / /srv/a\xa0b\u2028c rw - tmpfs tmpfs rw\n")
    assert mount_points(table) == ["/proc", "/srv/vm tool/a\tb\nc\\d", "/srv/a\xa0b\u2028c"]
