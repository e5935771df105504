"""Encrypting and verifying a model by real processes: as the page says, and killed on the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.kills import killed
from tests.integration.machine import Vmtool
from tests.pages import ROOT, commands
from tests.unit.models.encryption.make import Owner, plain_model

PAGE = ROOT / "docs" / "encrypted-models.md"
SECOND = "model-00002-of-00002.safetensors"


def test_the_page_typed_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "state")
    plain_model(tmp_path / "plain")
    typed = [command.text for command in commands(PAGE)]
    assert len(typed) == 11
    vmtool = " ".join(tool.argv())
    for line in typed:
        assert line.startswith("vmtool ")
        done = subprocess.run(["sh", "-ec", line.replace("vmtool", vmtool, 1)], cwd=tmp_path, capture_output=True,
                              text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stderr)
    assert sorted(path.name for path in (tmp_path / "encrypted").iterdir()) == [
        "config.json", "model-00001-of-00002.safetensors", SECOND, "vmtool-manifest.json"]


@pytest.mark.parametrize("record", [f"step encrypt {SECOND}", "step sign the manifest", "step copy config.json"])
def test_killed_it_goes_on_where_it_ended(tmp_path: Path, record: str) -> None:
    tool = Vmtool(tmp_path / "state")
    owner, source, out = Owner(tmp_path), plain_model(tmp_path / "plain"), tmp_path / "out"
    words = ("model", "encrypt", source, "-o", out, "--key", owner.key, "--sign", owner.sign)
    assert killed(tool, record, *words)
    assert "not an encrypted model" in tool("model", "verify", out, "--signer", owner.sign, status=2).err
    before = {path.name: path.stat().st_ino for path in out.iterdir() if not path.name.startswith(".")}
    tool("recover")
    again = tool(*words)
    assert again.err.count("done before") == len(before)
    after = {path.name: path.stat().st_ino for path in out.iterdir()}
    assert before.items() <= after.items() and len(after) == 4, "nothing is left on the way"
    tool("model", "verify", out, "--signer", owner.sign, "--key", owner.key)
