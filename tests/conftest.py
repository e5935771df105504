"""What all tests share: the slow ones' switch, the lanes, the list of tests that must really run, and what did not run.

With `-n` the tests run in several processes, and this runs in those and in the one that reports: what the report needs
travels in `user_properties`.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.lanes import niceness, rank

if TYPE_CHECKING:
    from tests.schedule import Lanes

# Where the environment forbids it, each of the thousand vmtools that tests start would compile all its modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A loaded machine is slow: no test may fail for that.
_unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", _unhurried, max_examples=20)
settings.register_profile("slow", _unhurried, max_examples=500)

MUST_RUN = Path(__file__).with_name("must_run.txt")
SKIPPED = "skipped"
_skipped: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the slow tests")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("slow" if config.getoption("--slow") else "quick")
    if "PYTEST_XDIST_WORKER" in os.environ:
        with contextlib.suppress(PermissionError):  # one priority for all, then
            config.pluginmanager.register(Priorities())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    from tests.schedule import Lanes

    config.option.loadscopereorder = False
    return Lanes(config, log)


class Priorities:
    """Of the processes beside each other some tests go before others (tests/lanes.py)."""

    def __init__(self) -> None:
        self.usual = os.getpriority(os.PRIO_PROCESS, 0)
        # Who may not do this could not go back from a lower one either.
        os.setpriority(os.PRIO_PROCESS, 0, self.usual - 1)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, self.usual + niceness(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays: neither now nor later does the garbage collector go through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: rank(item.nodeid))
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: scripts/test --slow"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skip is not a pass: a test of the list that skips, fails."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.user_properties.append((SKIPPED, reason.removeprefix("Skipped: ")))
        if not item.get_closest_marker("slow") and any(item.nodeid.startswith(prefix) for prefix in must_run()):
            report.outcome = "failed"
            report.longrepr = f"must run on a plain Debian 12 machine ({MUST_RUN.name}), but skipped: {reason}"
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _skipped.update((report.nodeid, str(reason)) for name, reason in report.user_properties if name == SKIPPED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("did not run")
    for nodeid, reason in _skipped.items():
        terminalreporter.line(f"{nodeid}: {reason}")
    for line in not_checked():
        terminalreporter.line(line)


def must_run() -> tuple[str, ...]:
    """Beginnings of the ids of the tests that may not skip."""
    return tuple(line for line in MUST_RUN.read_text().splitlines() if line and not line.startswith("#"))


def not_checked() -> tuple[str, ...]:
    """What no test can show on a machine like this."""
    return ("a launch with Kata, virtCCA, SNP or TDX: needs such a host",
            "binding and the confidential-computing mode of a real GPU: the lab's are emulated",
            "images/vllm (GPU): needs a GPU and a container registry")
