"""The files of a guest that libvirt starts."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmtool.libvirt.facts import GuestImage
from vmtool.libvirt.initramfs_files import guest_files, unit_word
from vmtool.rootfs.format.image_file import Extent
from vmtool.rootfs.metadata.manifest import VerityPart

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
    assert 'disk="${disk}"\n' in bare
    assert 'mount -t ext4 -o ro "$disk" /root' in bare
    assert 'disk="${disk}1"\n' in kata
    assert 'mount -t erofs -o ro "$disk" /root' in kata


def test_each_disk_is_opened_through_its_root_hash() -> None:
    image = replace(KATA, verity=VerityPart(root_hash="ab" * 32, salt="cd", data_blocks=100))
    files = guest_files(image, ("x",), dmsetup="/sbin/dmsetup")
    assert ('verify root "0 800 verity 1 ${disk}1 ${disk}2 4096 4096 100 0 sha256 ' + "ab" * 32
            + ' cd 1 panic_on_corruption"') in files["init"]
    assert 'mount -t erofs -o ro "$disk" /root' in files["init"]
    assert {"dm_verity", "sha256_generic"} <= set(files["modules"].split())
    assert files["programs"] == "/sbin/dmsetup\n"
    plain = guest_files(image, ("x",))
    assert "verify" not in plain["init"]
    assert "programs" not in plain
    assert "dm_verity" not in plain["modules"]


def test_the_workload_runs_with_what_it_was_given() -> None:
    files = guest_files(KATA, ("python3", "-m", "x", "--cost", "5$"), (("A", "b c"), ("P", "$1")))
    unit = files["vmtool-workload.service"].splitlines()
    assert 'ExecStart="/usr/bin/env" "python3" "-m" "x" "--cost" "5$$"' in unit
    assert {'Environment="A=b c"', 'Environment="P=$1"', "PrivateDevices=yes"} <= set(unit)
    with_gpu = guest_files(KATA, ("x",), devices=True)["vmtool-workload.service"]
    assert "PrivateDevices=yes" not in with_gpu
    assert "BindReadOnlyPaths=-/run/vmtool/nvidia:/usr/local/nvidia\n" in with_gpu
    assert "vmtool.agent" in files["agent.sh"]
