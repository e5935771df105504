"""The tests' own machinery: two processes give one report, a skip that must not be is a failure, the lanes hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lanes import HOST, LAB, ROOTFS, lane_of, rank

ROOT = Path(__file__).parents[1]
SAMPLE = """
import os, pathlib, time, pytest
HERE = pathlib.Path(__file__).parent

@pytest.mark.parametrize("number", range(3))
def test_{name}(number):
    (HERE / f"{name}-{{number}}").write_text(str(os.getpid()))

def test_skips():
    pytest.skip("nothing for {name}")
"""


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs pytest on two modules of each of two lanes, with what all tests share."""
    for name in ("integration/test_one", "integration/test_two", "integration/test_rootfs_one", "other/test_plain"):
        path = tmp_path / "tests" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SAMPLE.format(name=path.stem[5:]))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: only with --slow\n")
    # Under CI pytest's summary tells whole messages, elsewhere their beginnings: here it is always the latter.
    unset = ("CI", "BUILD_NUMBER", "COLUMNS")
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("PYTEST_") and name not in unset}

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider",
                "--import-mode=importlib", *options, "tests"]
        return subprocess.run(argv, cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                              text=True, timeout=120, check=False)

    return run


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one", "two"])
def test_a_skip_is_reported_and_where_a_test_must_run_it_is_a_failure(
        sample: Callable[..., subprocess.CompletedProcess[str]], options: tuple[str, ...]) -> None:
    done = sample(*options)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "3 failed, 12 passed, 1 skipped in " in done.stdout.splitlines()[-1]
    assert done.stdout.count("must run on a plain Debian 12 machine (must_run.txt), but skipped") == 3
    told = done.stdout.partition(" did not run ")[2]
    for name in ("integration/test_one", "integration/test_two", "integration/test_rootfs_one", "other/test_plain"):
        assert f"tests/{name}.py::test_skips: nothing for {name.partition('test_')[2]}\n" in told
    assert "binding and the confidential-computing mode of a real GPU" in told


def test_a_lane_is_one_process(sample: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    sample("-n", "2")
    directory = tmp_path / "tests/integration"
    processes = {path.name[:-2]: path.read_text() for path in directory.glob("*-?")}
    assert processes["one"] == processes["two"] != processes["rootfs_one"]


def test_what_looks_at_the_whole_machine_is_in_one_lane() -> None:
    assert {lane_of(f"tests/integration/{name}.py::test") for name in ("test_run", "test_faults", "test_new")} == {HOST}
    assert lane_of("tests/integration/test_rootfs_add.py::test[a::b]") == ROOTFS
    assert lane_of("tests/lab/test_gpu_bind.py::test") == LAB
    assert lane_of("tests/integration/test_net.py::test") == "tests/integration/test_net.py"
    assert lane_of("tests/unit/net/test_check.py::TestAll::test") == "tests/unit/net/test_check.py"


def test_lanes_come_first_and_within_them_nothing_changes() -> None:
    tests = ["tests/unit/b.py::z", "tests/integration/test_rootfs.py::b", "tests/lab/test_lab.py::c",
             "tests/integration/test_run.py::e", "tests/integration/test_rootfs.py::a", "tests/unit/a.py::y",
             "tests/integration/test_watch.py::w", "tests/integration/test_net.py::n"]
    order = [3, 1, 4, 7, 2, 6, 0, 5]
    assert sorted(tests, key=rank) == [tests[number] for number in order]
