"""The configuration in its place: the file before it is kept once, and a shim that reads elsewhere is no success."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from vmtool.errors import NotReady, VmtoolError
from vmtool.host.files import write_output
from vmtool.kata.facts import read_target
from vmtool.kata.install import install_configuration

NONE = Recorded.load("debian12-pvm")


def test_the_file_before_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "configuration.toml"
    for text in ("one", "two", "three"):
        install_configuration(read_target(NONE), text, path)
    assert path.read_text() == "three"
    assert path.with_name("configuration.toml.before-vmtool").read_text() == "one"
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_shim_that_reads_another_file_is_told(tmp_path: Path) -> None:
    target = read_target(Recorded.load("epyc-snp"))
    assert target.shim is not None
    kata = replace(target.kata, shims=(replace(target.shim, environment="/other.toml"),))
    with pytest.raises(NotReady, match=r"KATA_CONF_FILE is /other.toml"):
        install_configuration(replace(target, kata=kata), "x", tmp_path / "c.toml")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VmtoolError, match=r"Not a directory|File exists"):
        write_output(tmp_path / "file" / "c.toml", "x")
    with pytest.raises(NotReady, match=r"Not a directory|File exists"):
        install_configuration(read_target(NONE), "x", tmp_path / "file" / "c.toml")
