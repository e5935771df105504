"""A launch through the system's containerd, which vmtool neither starts nor stops."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import VLLM, MakeSpec
from tests.integration.machine import Vmtool
from vmtool.containerd.endpoint import SYSTEM
from vmtool.host.local import LocalHost

PORT = 18481


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A containerd where the system's would be."""
    if SYSTEM.exists():
        pytest.skip(f"a containerd has {SYSTEM} already")
    config = tmp_path / "config.toml"
    config.write_text(f'version = 2\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
                      f'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
                      f'[grpc]\naddress = "{SYSTEM}"\n')
    SYSTEM.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["containerd", "--config", str(config)], stderr=subprocess.DEVNULL) as process:
        while not LocalHost().accepts(SYSTEM):
            assert process.poll() is None
            time.sleep(0.05)
        yield process
        process.terminate()
        process.wait(60)
    for path in SYSTEM.parent.glob("containerd.sock*"):
        path.unlink()


@pytest.mark.slow
def test_it_is_used_and_left_running(vmtool: Vmtool, containerd: subprocess.Popen[bytes], make_spec: MakeSpec,
                                     tmp_path: Path) -> None:
    tool = Vmtool(tmp_path / "vmtool")
    tool("image", "build", "vllm-cpu", timeout=600)
    spec = make_spec("system", PORT, **VLLM)
    planned = tool("plan", spec).out
    assert f"(nothing to do: the system's answers on {SYSTEM})" in planned
    tool("run", spec)
    try:
        listed = subprocess.run(["ctr", "--namespace", "vmtool", "tasks", "list", "--quiet"], capture_output=True,
                                text=True, timeout=10, check=True).stdout
        assert listed == "system\n"
        assert tool("chat", "system", "What is confidential computing?").out
    finally:
        tool("rm", "--yes", "system")
    assert containerd.poll() is None
    left = subprocess.run(["ctr", "--namespace", "vmtool", "containers", "list", "--quiet"], capture_output=True,
                          text=True, timeout=10, check=True).stdout
    assert left == ""
