"""Atheris, where it is installed, looks for inputs that reach new code of the verifiers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.attest.cases import needs_vectors

ROOT = Path(__file__).parents[2]


@needs_vectors
@pytest.mark.slow
def test_no_input_that_reaches_new_code_crashes_or_is_accepted(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="pip install atheris")
    done = subprocess.run([sys.executable, "-m", "tests.atheris_evidence", tmp_path, "-max_total_time=120",
                           "-max_len=20000", "-timeout=20", f"-artifact_prefix={tmp_path}/"], cwd=ROOT,
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
