"""The files of a guest that libvirt starts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.facts.imagefile import Extent
from vmtool.launch.domainfacts import GuestImage
from vmtool.launch.guestfiles import guest_files, unit_word

BARE = GuestImage(Path("/i/a.img"), Extent(0, 1 << 30, "ext4"), "", "multi-user.target", Path("/i/vmlinuz"))
KATA = GuestImage(Path("/i/b.img"), Extent(1 << 20, 1 << 29, "erofs"), "1", "multi-user.target", Path("/i/vmlinuz"))


def read_words(line: str) -> list[str]:
    """A line of ExecStart= as systemd takes it apart, as far as `unit_word` uses its syntax."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=20),
                min_size=1, max_size=5))
def test_whatever_a_word_holds_systemd_reads_it_back(words: list[str]) -> None:
    assert read_words(" ".join(map(unit_word, words))) == words


@pytest.mark.parametrize("word", ["a\nb", "a\0", "\r"])
def test_a_line_break_would_be_a_line_of_the_unit(word: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        unit_word(word)


def test_the_root_is_found_by_the_images_layout() -> None:
    bare, kata = (guest_files(image, ("python3",))["init"] for image in (BARE, KATA))
    assert 'mount -t ext4 -o ro "${disk}" /root' in bare
    assert 'mount -t erofs -o ro "${disk}1" /root' in kata


def test_the_workload_runs_with_what_it_was_given() -> None:
    files = guest_files(KATA, ("python3", "-m", "x", "--cost", "5$"), (("A", "b c"), ("P", "$1")))
    unit = files["vmtool-workload.service"].splitlines()
    assert 'ExecStart="/usr/bin/env" "python3" "-m" "x" "--cost" "5$$"' in unit
    assert {'Environment="A=b c"', 'Environment="P=$1"', "PrivateDevices=yes"} <= set(unit)
    assert "PrivateDevices=yes" not in guest_files(KATA, ("x",), devices=True)["vmtool-workload.service"]
    assert "vmtool.agent" in files["agent.sh"]
