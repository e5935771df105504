"""The real `vmtool doctor` on this machine, against independent looks at the same things."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.machine import until
from vmtool.containerd.facts import read_containerd
from vmtool.facts.kvm import PROBE
from vmtool.host.local import LocalMachine

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
VMTOOL = (sys.executable, "-m", "vmtool")


def doctor(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VMTOOL, "doctor", *args], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    result = doctor("--json")
    assert result.stderr == ""
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def level(made: dict[str, Any], id: str) -> str:
    (found,) = [item["level"] for item in made["findings"] if item["id"] == id]
    return str(found)


def test_processor_and_kernel(made: dict[str, Any]) -> None:
    facts = made["facts"]
    assert facts["cpu"]["arch"] == platform.machine()
    assert facts["cpu"]["cores"] == os.sysconf("SC_NPROCESSORS_ONLN")
    assert facts["kernel"]["release"] == os.uname().release
    assert facts["kernel"]["page_size"] == os.sysconf("SC_PAGE_SIZE")
    assert facts["is_root"] == (os.geteuid() == 0)


def test_kernel_options(made: dict[str, Any]) -> None:
    packed, plain = Path("/proc/config.gz"), Path(f"/boot/config-{os.uname().release}")
    if packed.exists():
        lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    elif plain.exists():
        lines = plain.read_text().splitlines()
    else:
        assert made["facts"]["kernel"]["config"] == {}
        assert level(made, "kernel.options") == "not-checked"
        return
    for name, value in made["facts"]["kernel"]["config"].items():
        assert (f"CONFIG_{name}={value}" in lines) == (value != "n"), name
    assert made["facts"]["kernel"]["config_source"] in (str(packed), str(plain))


def test_memory_and_disk(made: dict[str, Any]) -> None:
    facts = made["facts"]
    assert facts["memory"]["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    there = os.statvfs(facts["disk"]["existing"])
    assert os.path.commonpath([facts["disk"]["existing"], facts["disk"]["path"]]) == facts["disk"]["existing"]
    # Others write to the disk meanwhile.
    assert abs(facts["disk"]["free"] - there.f_bavail * there.f_frsize) < 2 << 30


def test_programs(made: dict[str, Any]) -> None:
    facts = made["facts"]
    assert facts["containerd"]["binary"] == shutil.which("containerd", path=PATH)
    assert facts["containerd"]["ctr"] == shutil.which("ctr", path=PATH)
    assert facts["runc"]["binary"] == shutil.which("runc", path=PATH)
    assert (level(made, "runc.installed") == "ok") == (facts["runc"]["binary"] is not None)
    if facts["containerd"]["binary"]:
        told = subprocess.run(["containerd", "--version"], capture_output=True, text=True, timeout=10).stdout
        assert f" {facts['containerd']['version']} " in told.replace(" v", " ").replace("\n", " ")


def test_containerd_answers_only_when_it_does(made: dict[str, Any]) -> None:
    probe = subprocess.run(["ctr", "--connect-timeout", "2s", "namespaces", "ls"], capture_output=True, timeout=20)
    assert made["facts"]["containerd"]["answers"] == (probe.returncode == 0)
    assert level(made, "containerd.answers") == ("ok" if probe.returncode == 0 else "warn")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Path]:
    """A containerd of our own; its socket, once it answers."""
    config, address = tmp_path / "config.toml", tmp_path / "c.sock"
    config.write_text(f'version = 2\nroot = "{tmp_path}/root"\nstate = "{tmp_path}/state"\n'
                      f'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
                      f'[grpc]\naddress = "{address}"\n[ttrpc]\naddress = "{address}.ttrpc"\n')
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(["containerd", "--config", config], stdout=log,
                                                                stderr=log) as child:
        try:
            # One that is still starting may take a connection and not answer on it.
            ask = ["ctr", "--address", str(address), "--connect-timeout", "5s", "version"]
            until(lambda: not subprocess.run(ask, timeout=60, capture_output=True).returncode, "it does not answer")
            yield address
        finally:
            child.terminate()
            child.wait(60)


def test_daemon_that_answers_and_one_that_died(daemon: Path) -> None:
    # It is asked for a few seconds, which may be too short on a busy machine.
    asked = (read_containerd(LocalMachine(), str(daemon)) for _ in range(60))
    facts = next((each for each in asked if each.answers and each.snapshotters), None)
    assert facts, "it never answers"
    assert facts.server_version == facts.version
    assert {"native", "overlayfs"} <= set(facts.snapshotters)
    # A socket whose owner is gone stays behind.
    dead = daemon.with_name("dead.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    assert read_containerd(LocalMachine(), str(dead)).answers is False


def test_kvm_is_judged_by_a_guest(made: dict[str, Any]) -> None:
    kvm = made["facts"]["kvm"]
    if not Path("/dev/kvm").exists():
        assert kvm["verdict"] == "absent"
        return
    with open("/dev/kvm", "rb+", buffering=0) as device:
        # KVM_CHECK_EXTENSION, of extension 300: virtCCA's.
        assert kvm["virtcca_extension"] == fcntl.ioctl(device, 0xAE03, 300)
    flags = Path("/proc/cpuinfo").read_text().split()
    if platform.machine() == "x86_64":
        honest = ("vmx" in flags or "svm" in flags) and not Path("/sys/module/kvm_pvm").exists()
        assert (kvm["verdict"] == "runs") <= honest
        assert kvm["verdict"] != "not-checked"
    else:
        assert kvm["verdict"] == "not-checked"


def test_probe_tells_why_it_cannot_ask() -> None:
    """In a mount namespace where /dev/kvm is /dev/null: no ioctl works on it, and nobody may say that KVM runs."""
    if not Path("/dev/kvm").exists():
        pytest.skip("no /dev/kvm to cover")
    script = 'mount --bind /dev/null /dev/kvm && exec "$@"'
    result = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", *PROBE], capture_output=True, text=True,
                            timeout=20)
    seen = json.loads(result.stdout)
    assert seen["stage"] == "version"
    assert "Inappropriate ioctl" in seen["error"]


def test_same_host_does_not_differ(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(doctor("--json", "--for", "kata").stdout)
    result = doctor("--compare", str(good))
    assert (result.returncode, result.stdout) == (0, f"0 differences from {good}\n")


def test_text_without_a_terminal_has_no_colour_and_the_exit_code_fits() -> None:
    result = doctor("--for", "libvirt")
    assert "\x1b" not in result.stdout
    failures = [line for line in result.stdout.splitlines() if line.startswith("  fail ")]
    assert result.returncode == (3 if failures else 0)
    assert f" {len(failures)} failure" in result.stdout.splitlines()[-1]


def test_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{")
    result = doctor("--compare", str(tmp_path / "x"))
    assert result.returncode == 2
    assert "is not JSON" in result.stderr
    assert "hint: make one on the good host" in result.stderr


# An ordinary user may not be able to read the checkout, so the modules are loaded before the rights are dropped.
AS_NOBODY = """
import os, sys
import vmtool.doctor.commands, vmtool.cli.main
os.setgroups([]); os.setgid(65533); os.setuid(65533)
sys.argv = ["vmtool", "doctor", "--for", "kata", "--json"]
vmtool.cli.main.main()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_ordinary_user_gets_not_checked_instead_of_a_wrong_answer() -> None:
    result = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, timeout=60, cwd="/")
    assert result.stderr == ""
    made = json.loads(result.stdout)
    assert made["facts"]["is_root"] is False
    assert level(made, "user.root") == "warn"
    if Path("/dev/kvm").exists() and not Path("/dev/kvm").stat().st_mode & 0o006:
        assert level(made, "kvm.runs-guests") == "not-checked"
    assert level(made, "network.iptables") == "not-checked"
