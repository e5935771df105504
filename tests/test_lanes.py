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
MODULES = ("integration/test_one", "integration/test_two", "integration/test_rootfs_one", "other/test_plain",
           "unit/test_last")
SAMPLE = """
import os, pathlib, time, pytest
HERE = pathlib.Path(__file__).parent

@pytest.mark.parametrize("number", range(3))
def test_{name}(number):
    (HERE / f"{name}-{{number}}").write_text(f"{{os.environ.get('PYTEST_XDIST_WORKER')}} {{os.getpriority(0, 0)}}")

def test_skips():
    pytest.skip("nothing for {name}")
"""


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs pytest on two modules of one lane and some of others, with what all tests share."""
    for name in MODULES:
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
    assert "4 failed, 15 passed, 1 skipped in " in done.stdout.splitlines()[-1]
    assert done.stdout.count("must run on a plain Debian 12 machine (must_run.txt), but skipped") == 4
    told = done.stdout.partition(" did not run ")[2]
    for name in MODULES:
        assert f"tests/{name}.py::test_skips: nothing for {name.partition('test_')[2]}\n" in told
    assert "binding and the confidential-computing mode of a real GPU" in told


def test_a_lane_is_one_process_and_the_last_begins_at_the_end(
        sample: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    sample("-n", "3")
    told = {path.name[:-2]: path.read_text().split() for path in (tmp_path / "tests").glob("*/*-?")}
    workers = {name: worker for name, (worker, _) in told.items()}
    # Whichever is ready first has the first lane, and whichever is last begins at the end.
    assert workers["one"] == workers["two"]
    assert len({workers[name] for name in ("one", "rootfs_one", "last")}) == 3
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    try:
        os.setpriority(os.PRIO_PROCESS, 0, usual - 1)
    except PermissionError:
        return  # nobody goes before others
    os.setpriority(os.PRIO_PROCESS, 0, usual)
    nice = {name: min(int(each), 19) - usual for name, (_, each) in told.items()}
    assert nice == {"one": -5, "two": -5, "rootfs_one": 0, "plain": 0, "last": min(5, 19 - usual)}


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
