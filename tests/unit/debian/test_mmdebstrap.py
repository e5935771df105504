"""mmdebstrap's arguments: its options in any order, then suite, target and sources in this one (mmdebstrap(1))."""

from __future__ import annotations

from pathlib import Path

from vmtool.debian.mmdebstrap import NO_RECOMMENDS, NO_TRANSLATIONS, Bootstrap
from vmtool.isolation import OWN_IDS, private

TARGET = Path("/s/tree")
PRIVATE = private(root=True)


def test_every_part_of_a_call_stands_in_its_place() -> None:
    made = Bootstrap("bookworm", TARGET, "minbase", "directory", "arm64", ("make", "curl"),
                     apt=(NO_TRANSLATIONS, NO_RECOMMENDS), dpkg=("path-exclude=/usr/share/man/*",),
                     setup=('tar -x -C "$1"',), customize=("one", "two"), sources=("deb a b c", "/etc/apt/x.list"),
                     root=True)
    assert made.argv == (
        *PRIVATE, "mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--architectures=arm64",
        "--include=make,curl", '--aptopt=Acquire::Languages "none"', '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/man/*", '--setup-hook=tar -x -C "$1"', "--customize-hook=one",
        "--customize-hook=two", "bookworm", "/s/tree", "deb a b c", "/etc/apt/x.list")


def test_what_is_not_asked_for_is_left_to_mmdebstrap() -> None:
    made = Bootstrap("trixie", TARGET, "extract", "tar", root=True)
    assert made.argv == (*PRIVATE, "mmdebstrap", "--mode=root", "--variant=extract", "--format=tar", "trixie",
                         "/s/tree")


def test_another_architecture_is_emulated_in_a_user_namespace() -> None:
    words = Bootstrap("trixie", TARGET, "minbase", arch="arm64", emulator="/usr/lib/binfmt.d/qemu-aarch64.conf",
                      root=True).argv
    start = len(PRIVATE) + 1
    assert words[start:start + 2] == ("--mode=unshare", "--skip=check/qemu")
    assert words[start + 2].endswith("cat /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register")
    assert "--mode=root" not in words


def test_an_ordinary_user_gets_ids_for_the_packages_users_and_the_child_still_ends_with_vmtool() -> None:
    words = Bootstrap("trixie", TARGET, "extract", "tar", root=False).argv
    assert words[:6] == (*OWN_IDS, "setpriv", "--pdeathsig", "KILL")
    assert words[6:] == Bootstrap("trixie", TARGET, "extract", "tar", root=True).argv
