"""vmtool run in a stranger's folder, with a stranger's home and environment, runs none of the stranger's code."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.command_lines import LINES, NET_LINES
from tests.integration.machine import VMTOOL
from tests.integration.nethost import NetHost
from tests.integration.traps import Traps, lay

SPEC = """\
apiVersion: vmtool/v1
kind: Runtime
metadata: {name: a}
spec:
  runtime: {handler: runc}
  allow_unconfidential: true
  image: docker.io/vmtool/x
  model: {name: m, path: /nowhere}
  resources: {memory: 1Gi, cpus: 1}
"""
@pytest.fixture(scope="module")
def traps(tmp_path_factory: pytest.TempPathFactory) -> Traps:
    root = tmp_path_factory.mktemp("stranger")
    laid = lay(root / "folder", root / "sprung")
    (laid.folder / "spec.yaml").write_text(SPEC)
    (laid.folder / "kata.toml").write_text("[hypervisor.qemu]\n")
    image = laid.folder / "guest.img"
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(["/usr/sbin/mke2fs", "-q", "-t", "ext4", str(image)], check=True, timeout=60)
    return laid


def typed(traps: Traps, state: Path, *words: str) -> str:
    """What is printed by vmtool in the stranger's folder; fails when a trap went off."""
    env = traps.environment | {"VMTOOL_STATE_DIR": str(state), "VMTOOL_CACHE": str(state.parent / "cache")}
    out = subprocess.run([VMTOOL, *words], cwd=traps.folder, env=env, stdin=subprocess.DEVNULL, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, check=False).stdout
    assert traps.went_off() == [], out
    assert "Traceback" not in out
    return out


@pytest.mark.parametrize("line", LINES)
def test_a_command_runs_only_our_code(line: str, traps: Traps, tmp_path: Path) -> None:
    typed(traps, tmp_path / "state", *line.split())


def test_networks_are_made_with_only_our_code(traps: Traps, tmp_path: Path) -> None:
    env = traps.environment | {"VMTOOL_STATE_DIR": str(tmp_path / "state")}
    settings = [f"{name}={value}" for name, value in env.items()]
    with NetHost() as host:
        for line in NET_LINES:
            host.run("/usr/bin/env", "-C", traps.folder, *settings, VMTOOL, *line.split())
    assert traps.went_off() == []


def test_the_installed_program_starts_apart_from_the_environment() -> None:
    assert re.fullmatch(r"#!/\S+/python[\d.]* -I", Path(VMTOOL).read_text().splitlines()[0])


def test_a_growth_in_a_strangers_folder_succeeds(traps: Traps, tmp_path: Path) -> None:
    image = traps.folder / "guest.img"
    before = image.stat().st_size
    typed(traps, tmp_path / "state", "rootfs", "resize", "guest.img", "+64M")
    assert image.stat().st_size == before + (64 << 20)


def test_the_traps_go_off(traps: Traps) -> None:
    """Each kind: else the others would prove nothing."""
    for argv in (["ctr"], ["/usr/bin/python3", "-c", "import json"]):
        subprocess.run(argv, cwd=traps.folder, env=traps.environment | {"PYTHONHOME": ""}, check=False, timeout=60)
    kinds = {line.split()[0] for line in traps.went_off()}
    traps.sprung.unlink()
    assert kinds == {"program", "module", "library"}
