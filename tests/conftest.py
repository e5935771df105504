"""What all tests share: the slow ones' switch, the list of tests that must really run, and what did not run."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A loaded machine is slow: no test may fail for that.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

MUST_RUN = Path(__file__).with_name("must_run.txt")
_skipped: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the slow tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
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
        _skipped[item.nodeid] = reason.removeprefix("Skipped: ")
        if not item.get_closest_marker("slow") and any(item.nodeid.startswith(prefix) for prefix in must_run()):
            report.outcome = "failed"
            report.longrepr = f"must run on a plain Debian 12 machine ({MUST_RUN.name}), but skipped: {reason}"
    return report


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
