"""The operator's page of a running service, typed line by line against one real container, which speaks TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pages as d
from tests.integration.conftest import MakeSpec
from tests.integration.machine import Vmtool, footprint, until
from tests.integration.page_lines import bash, wrong
from tests.integration.serving.prometheus import promtool, reading

# A minute: six launches.
pytestmark = pytest.mark.slow

PORT, METRICS, NAME = 18671, 18672, "chat"
PAGE = d.ROOT / "docs" / "service.md"
# What goes on until it is ended, and is tested with a collector (tests/integration/serving/test_otlp.py).
WITHOUT_END = "--every"


@pytest.fixture(scope="module")
def running(vmtool: Vmtool, make_spec: MakeSpec) -> Iterator[Path]:
    """The instance's spec. Afterwards the machine is as before."""
    before = footprint()
    spec = make_spec(NAME, PORT, tls={"source": "ca", "names": ["llm.lab.example"]},
                     metrics={"publish": f"127.0.0.1:{METRICS}"})
    vmtool("run", spec)
    yield spec
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


def test_each_line_does_what_it_says_one_after_the_other(vmtool: Vmtool, running: Path, standin: str, programs: Path,
                                                         tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(running.read_text().replace("canary: 300", "canary: 301"))
    typed = [command for command in d.commands(PAGE) if not command.needs and WITHOUT_END not in command.text]
    assert len(typed) > 20
    problems = []
    for command in typed:
        line = command.text.replace("quickstart", NAME).replace("vmtool/vllm-cpu:latest", standin)
        if problem := wrong(command, bash(line, tmp_path, vmtool.state, timeout=600)):
            problems.append(problem)
    assert not problems, "\n".join(problems)
    assert promtool(programs, "check", "rules", str(tmp_path / "vmtool-alerts.yml")) == ""
    assert promtool(programs, "check", "metrics", text=(tmp_path / "vmtool.prom").read_bytes()) == ""
    directory, ca = vmtool.state / "instances" / NAME, str(tmp_path / "vmtool-ca.pem")
    with reading(programs, tmp_path, f"127.0.0.1:{METRICS}", scheme="https", tls_config={"ca_file": ca},
                 authorization={"credentials_file": str(directory / "secret" / "metrics-key")}) as ask:
        until(lambda: ask("vmtool_engine_up") == ["1"], "Prometheus has not read it")
    asked = f"curl -sS --cacert {ca} https://127.0.0.1:{PORT}/health"
    assert bash(asked, tmp_path, vmtool.state).returncode == 0, "clients that trust the exported CA reach it"
    assert os.path.getsize(tmp_path / "vmtool-dashboard.json") > 1000
