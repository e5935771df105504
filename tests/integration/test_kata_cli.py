"""`vmtool kata` as a process: exit codes, streams, files, and how long it takes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.integration.machine import VMTOOL, Result

GOLDEN = Path(__file__).parents[1] / "golden" / "kata"


def vmtool(*words: str | Path, status: int = 0) -> Result:
    done = subprocess.run([VMTOOL, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """The public guide's case."""
    path = tmp_path / "guide.yaml"
    path.write_text(yaml.safe_dump({
        "apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "arch"}, "spec": {
            "runtime": {"handler": "kata", "tee": "virtcca", "kata": {"version": "CC-0.8.0"}},
            "image": "vllm-cvm:latest", "model": {"name": "m", "path": "/m"},
            "resources": {"memory": "20Gi", "cpus": 4, "accelerators": {"count": 1}}}}))
    return path


def test_the_guides_case_is_rendered_and_checked(spec: Path, tmp_path: Path) -> None:
    rendered = vmtool("kata", "render", spec)
    assert rendered.out == (GOLDEN / "CC-0.8.0-virtcca-gpu.toml").read_text(), "findings do not mix with the file"
    assert "security.shared-fs" in rendered.err
    file = tmp_path / "configuration.toml"
    assert (f"written: {file}; next: vmtool kata check {file} --kata-version CC-0.8.0"
            in vmtool("kata", "render", spec, "-o", file).err)
    assert file.read_text() == rendered.out
    checked = vmtool("kata", "check", file, "--kata-version", "cc-0.8.0", "--tee", "virtcca", "--gpus", "1")
    assert "0 errors, 2 warnings, 0 notes" in checked.out
    assert "not checked: whether the files that it names are there" in checked.out


def test_the_network_of_a_launch_is_rendered(spec: Path) -> None:
    wish = yaml.safe_load(spec.read_text())
    wish["spec"]["network"] = {"subnet": "10.211.9.0/24", "bridge": "vmt-shown"}
    spec.write_text(yaml.safe_dump(wish))
    network = json.loads(vmtool("kata", "render", spec, "--kind", "cni").out)
    [bridge, *_] = network["plugins"]
    assert (network["name"], bridge["bridge"]) == ("arch", "vmt-shown")
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.211.9.0/24"}]]
    wish["spec"]["network"]["subnet"] = "127.0.0.0/24"
    spec.write_text(yaml.safe_dump(wish))
    assert "127.0.0.0/24" in vmtool("kata", "render", spec, "--kind", "cni", status=2).err


def test_a_typo_is_exit_code_4_and_one_document(tmp_path: Path) -> None:
    file = tmp_path / "configuration.toml"
    file.write_text((GOLDEN / "4.1-snp.toml").read_text().replace("confidential_guest", "confidental_guest"))
    document = vmtool("kata", "check", file, "--kata-version", "4.1", "--tee", "snp", "--json", status=4).json
    found = {item["id"]: item for item in document["findings"]}
    assert (document["schema"], document["release"]) == ("vmtool/v1", "4.1")
    assert found["key.unknown"]["hint"] == "did you mean confidential_guest?"
    assert found["key.unknown"]["place"] == f"{file}:{line_of(file, 'confidental_guest')}"
    assert found["tee.not-confidential"]["severity"] == "error"


def line_of(file: Path, word: str) -> int:
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if word in line)


@pytest.mark.parametrize(("kata", "message"), [
    ({"version": "4.1"}, "Kata 4.1 has no virtcca with GPUs"),
    ({"version": "CC-0.8.0", "cold_plug_vfio": "no-port"}, "no device is plugged"),
], ids=["release", "no-port"])
def test_what_would_start_another_guest_is_refused(spec: Path, kata: dict[str, str], message: str) -> None:
    document = yaml.safe_load(spec.read_text())
    document["spec"]["runtime"]["kata"] = kata
    spec.write_text(yaml.safe_dump(document))
    refused = vmtool("kata", "render", spec, status=2)
    assert message in refused.err
    assert refused.out == ""


@pytest.mark.parametrize(("words", "status", "message"), [
    (("check", "/nonexistent.toml", "--kata-version", "4.1"), 2, "no such file"),
    (("check", "/etc/hostname", "--kata-version", "4.1"), 2, "/etc/hostname: not TOML"),
    (("keys", "--kata-version", "2.0"), 2, "known: CC-0.8.0, 3.15, "),
    (("render", "/nonexistent.yaml", "--install", "-o", "x"), 2, "--install is for the configuration"),
    (("keys", "no-such-key"), 2, "no key of Kata"),
])
def test_refusals(words: tuple[str, ...], status: int, message: str) -> None:
    assert message in vmtool("kata", *words, status=status).err


def test_keys_by_pattern_and_release() -> None:
    assert "hypervisor.qemu.pcie_root_port" in vmtool("kata", "keys", "root_port").out
    assert len(vmtool("kata", "keys", "--kata-version", "4.1", "--json").json["keys"]) == 121
    vmtool("kata", "keys", "kernel_verity_params", "--kata-version", "3.15", status=2)


def test_a_foreign_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[hypervisor.qemu]\n"a\\u001b]0;x" = 1\nshared_fs = "\\u001b[31m"\n')
    out = vmtool("kata", "check", file, "--kata-version", "4.1", status=4).out
    assert "\x1b]" not in out
    assert "\x1b[31mred" not in out
