"""What a hint says when an extra is not installed."""

from __future__ import annotations

import configparser
import shlex
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT
from vmtool import extras, rendering


def test_a_checkout_has_its_own_setup_which_knows_the_extra() -> None:
    program, option, name = shlex.split(extras.adding("attest"))
    assert (program, option) == (str(ROOT / "scripts" / "setup"), "--extra")
    known = configparser.ConfigParser()
    known.read(ROOT / "setup.cfg")
    assert name in known["options.extras_require"]


def test_a_package_is_added_to_by_its_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "__file__", str(tmp_path / "site packages" / "vmtool" / "rendering.py"))
    assert shlex.split(extras.adding("tls")) == [sys.executable, "-I", "-m", "pip", "install", "vmtool[tls]"]
