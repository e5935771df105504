"""Which file is checked, as what, and what of the host counts."""

from __future__ import annotations

import pytest

from tests.fakes.recorded import Recorded
from vmtool.errors import NotReady
from vmtool.kata.lint_target import choose_checked
from vmtool.spec.kata_releases import release_of

EPYC = Recorded.load("epyc-snp")


def test_the_shims_own_file_with_its_drop_ins_and_this_host() -> None:
    chosen = choose_checked(EPYC, None, None)
    assert chosen.file == "/opt/kata/share/defaults/kata-containers/configuration-qemu.toml"
    assert chosen.drop_ins == ("/opt/kata/share/defaults/kata-containers/config.d/10-timeouts.toml",)
    assert (chosen.release.name, chosen.guessed) == ("3.30", False)
    assert chosen.host.tee == {"snp": True, "tdx": False, "virtcca": False}
    assert chosen.host.cores == 4


def test_a_named_file_is_not_held_against_this_host() -> None:
    chosen = choose_checked(EPYC, "/opt/kata/share/defaults/kata-containers/other.toml", release_of("4.1"))
    assert chosen.host.exists is None
    assert chosen.release.name == "4.1"
    assert chosen.drop_ins, "but a shim that reads it merges what is next to it"


def test_without_a_shim_the_newest_release_is_guessed_and_said() -> None:
    chosen = choose_checked(Recorded.load("debian12-pvm"), "c.toml", None)
    assert (chosen.release.name, chosen.guessed, chosen.drop_ins) == ("4.1", True, ())


def test_without_a_file_and_a_shim_there_is_nothing_to_check() -> None:
    with pytest.raises(NotReady, match="no Kata configuration on this host") as error:
        choose_checked(Recorded.load("debian12-pvm"), None, None)
    assert "no containerd-shim-kata" in error.value.details[0]


def test_a_file_that_the_shim_does_not_start_with_is_said_to_be_that() -> None:
    below = "/opt/kata/share/defaults/kata-containers"
    host = Recorded({
        "names": {"/usr/local/bin": ["containerd-shim-kata-v2"], f"{below}/config.d": ["sub"]},
        "exists": [f"{below}/configuration.toml", f"{below}/config.d", f"{below}/config.d/.", f"{below}/config.d/sub",
                   f"{below}/config.d/sub/."],
        "links": {"/usr/local/bin/containerd-shim-kata-v2": "/opt/kata/bin/containerd-shim-kata-v2"}})
    with pytest.raises(NotReady, match=f"containerd-shim-kata-v2 does not start with {below}/configuration") as error:
        choose_checked(host, None, None)
    assert list(error.value.details) == [
        f"{below}/config.d/sub is a directory, and the shim reads every entry of config.d as a file"]
