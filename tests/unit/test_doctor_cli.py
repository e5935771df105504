"""`vmtool doctor` as a person and a program see it: text, JSON, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.fakes.recorded import Recorded
from vmtool.cli.main import vmtool
from vmtool.errors import Refused


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    def runs(host: str, *args: str, **options: Any) -> Result:
        monkeypatch.setattr("vmtool.doctor.commands.LocalMachine", lambda: Recorded.load(host))
        return CliRunner().invoke(vmtool, ["--state-dir", "/var/lib/vmtool", "doctor", *args], **options)

    return runs


def test_text_of_a_host_that_fits(run: Any) -> None:
    result = run("debian12-pvm")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "machine"
    assert lines[1] == "  ok           user.root             runs as root             effective user id 0"
    assert lines[-1] == "13 ok, 1 warning, 0 failures, 0 not checked"
    warned = next(number for number, line in enumerate(lines) if line.startswith("  warn"))
    assert lines[warned + 1] == " " * 15 + "hint: systemctl enable --now containerd, or leave it so"
    assert "\x1b" not in result.stdout


def test_columns_are_aligned(run: Any) -> None:
    lines = [line for line in run("epyc-snp", "--for", "kata", "--tee", "snp").stdout.splitlines()
             if line.startswith("  ") and "hint:" not in line]
    starts = {line.index(title) for line, title in zip(lines, ("runs as root", "processor"), strict=False)}
    assert len(lines) > 10
    assert len(starts) == 1


def test_failure_is_exit_code_3(run: Any) -> None:
    result = run("debian12-pvm", "--for", "kata")
    assert result.exit_code == 3
    assert "fail         kvm.runs-guests" in result.stdout
    assert result.stdout.splitlines()[-1] == "11 ok, 2 warnings, 4 failures, 0 not checked"


def test_not_checked_is_shown_and_is_no_failure(run: Any) -> None:
    result = run("kunpeng-virtcca", "--for", "kata", "--tee", "virtcca")
    assert result.exit_code == 0
    assert "not-checked  kvm.runs-guests" in result.stdout
    assert result.stdout.splitlines()[-1].endswith("0 failures, 1 not checked")


def test_colour_only_when_the_terminal_may_have_it(run: Any) -> None:
    assert "\x1b[31mfail" in run("old-bare", color=True).stdout
    assert "\x1b" not in run("old-bare").stdout


def test_json_is_one_document(run: Any) -> None:
    result = run("epyc-snp", "--for", "kata", "--tee", "snp", "--json")
    made = json.loads(result.stdout)
    assert (made["schema"], made["kind"], made["purpose"], made["tee"]) == ("vmtool/v1", "doctor", "kata", "snp")
    assert made["facts"]["cpu"]["vendor"] == "AuthenticAMD"
    assert made["facts"]["tee"]["snp"]["available"] is True
    assert "rules" not in made["facts"]["network"]
    assert {"id": "tee.snp", "level": "ok", "title": "AMD SEV-SNP",
            "detail": "/sys/module/kvm_amd/parameters/sev_snp is Y", "hint": ""} in made["findings"]
    assert (result.exit_code, result.stderr) == (0, "")
    assert run("old-bare", "--json").exit_code == 3


def test_compare(run: Any, tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(run("epyc-snp", "--for", "kata", "--tee", "snp", "--json").stdout)
    # Handler and TEE are the file's.
    same = run("epyc-snp", "--compare", str(good))
    assert (same.exit_code, same.stdout) == (0, f"0 differences from {good}\n")
    other = run("xeon-tdx", "--compare", str(good))
    assert other.exit_code == 4
    assert 'facts.cpu.vendor: "AuthenticAMD" -> "GenuineIntel"' in other.stdout.splitlines()
    assert 'findings.tee.snp.level: "ok" -> "fail"' in other.stdout.splitlines()
    made = json.loads(run("xeon-tdx", "--compare", str(good), "--json").stdout)
    assert {"path": "facts.tee.snp.available", "theirs": "true", "ours": "false"} in made["differences"]
    purpose = run("epyc-snp", "--compare", str(good), "--for", "libvirt", "--tee", "none")
    assert 'purpose: "kata" -> "libvirt"' in purpose.stdout.splitlines()


def test_file_with_an_unknown_purpose_is_taken_for_the_default(run: Any, tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    made = json.loads(run("epyc-snp", "--json").stdout)
    good.write_text(json.dumps(made | {"purpose": ["x"], "tee": "sgx"}))
    result = run("epyc-snp", "--compare", str(good))
    assert result.exit_code == 4
    assert 'purpose: ["x"] -> "runc"' in result.stdout


def test_runc_in_a_tee_is_refused(run: Any) -> None:
    result = run("epyc-snp", "--tee", "snp")
    assert isinstance(result.exception, Refused)
    assert result.exception.message == "--tee snp: a container under runc cannot be confidential"
    assert result.exception.hint == "vmtool doctor --for kata --tee snp"


@pytest.mark.parametrize("args", [("--for", "docker"), ("--tee", "sgx"), ("extra",)])
def test_usage(run: Any, args: tuple[str, ...]) -> None:
    assert run("epyc-snp", *args).exit_code == 2
