"""`vmtool gpu` as it is typed, on recorded hosts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.fakes.sysfs import FakeKernel
from tests.unit.gpu.acting import on
from tests.unit.gpu.cases import H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.cli.main import vmtool
from vmtool.engine import apply
from vmtool.errors import NotReady, Refused
from vmtool.gpu.commands import bind, cc_mode, show
from vmtool.paths import State


@pytest.fixture
def typed(boot: Boot, state: State, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Type a command on a host; what it raises is in the result."""
    def run(kernel: FakeKernel, *words: str) -> Result:
        for module in (bind, cc_mode, show):
            monkeypatch.setattr(module, "LocalMachine", lambda: kernel)
        monkeypatch.setattr(apply, "LocalHost", on(kernel))
        return CliRunner().invoke(vmtool, ["--state-dir", str(state.root), "gpu", *words])

    return run


def test_list_shows_accelerators_and_not_the_rest(boot: Boot, typed: Any) -> None:
    kernel = boot("hgx-h100", **IDLE)
    lines = typed(kernel, "list").stdout.splitlines()
    assert lines[0].split() == ["BDF", "TYPE", "DRIVER", "GROUP", "NUMA", "STATE", "NAME"]
    assert len(lines) == 13
    assert f"{H100[0]}  nvidia-h100      nvidia           60     0     host   -" in lines
    assert len(typed(kernel, "list", "--all").stdout.splitlines()) == 26
    assert typed(kernel, "list", "-o", "name").stdout.split()[4:] == list(H100)


def test_list_as_json(boot: Boot, typed: Any) -> None:
    kernel = boot("grace", **IDLE)
    assert typed(kernel, "list", "--json").stdout == typed(kernel, "list", "-o", "json").stdout
    [device] = json.loads(typed(kernel, "list", "--json").stdout)["devices"]
    assert (device["bdf"], device["type"], device["iommu_group"], device["state"]) == (
        "0009:01:00.0", "nvidia-gh200", 17, "host")


def test_bind_status_and_release_tell_the_new_state(boot: Boot, typed: Any) -> None:
    kernel = boot("hgx-h100", **IDLE)
    bound = typed(kernel, "bind", H100[0], "--yes")
    assert bound.exit_code == 0, bound.output
    assert f"{H100[0]}  nvidia-h100  vfio-pci  60     0     bound" in bound.output
    assert f"next: vmtool gpu release {H100[0]}" in bound.output
    assert "came from nvidia; vmtool gpu release" in typed(kernel, "status", H100[0]).stdout
    [shown] = [one["came_from"] for one in json.loads(typed(kernel, "list", "--json").stdout)["devices"]
               if one["bdf"] == H100[0]]
    assert set(shown) == {"bdf", "driver", "module", "override", "power_control", "d3cold_allowed", "bound_to"}
    assert f"- bind {H100[0]} to vfio-pci: already bound" in typed(kernel, "bind", H100[0]).output
    released = typed(kernel, "unbind", H100[0])
    assert f"{H100[0]}  nvidia-h100  nvidia  60     0     host" in released.output


def test_consent_is_asked_for_what_is_bound_and_not_for_what_is_bound_already(boot: Boot, typed: Any) -> None:
    kernel = boot("hgx-h100", **IDLE)
    assert typed(kernel, "bind", H100[0], "--yes").exit_code == 0
    assert typed(kernel, "bind", H100[0]).exit_code == 0, "nothing is taken from a driver"
    refused = typed(kernel, "bind", H100[0], H100[1])
    assert "needs consent" in str(refused.exception)
    released = typed(kernel, "release", "--all").output
    assert f"next: vmtool gpu bind {H100[0]}\n" in released, "one that was not released is not shown"


def test_holders_are_shown(boot: Boot, typed: Any) -> None:
    out = typed(boot("hgx-h100"), "status", "0000:3a:00.0").stdout
    assert "used by   python3 (pid 4242): /dev/nvidia-uvm, /dev/nvidia2, /dev/nvidiactl" in out
    assert "used by   nvidia-persiste (pid 1180, nvidia-persistenced.service)" in out


def test_a_dry_run_writes_nothing_anywhere(boot: Boot, typed: Any, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    out = typed(kernel, "bind", "--all", "--dry-run").stdout
    assert out.count("/driver_override") == 12
    assert (kernel.written, state.root.exists()) == ([], False)


@pytest.mark.parametrize("words, error, message", [
    (("bind", H100[0]), Refused, "needs consent"), (("bind",), Refused, "nothing is chosen"),
    (("release",), Refused, "nothing is chosen"), (("status", "0000:04:00.0"), Refused, "is no accelerator"),
    (("cc-mode", "show"), NotReady, "not checked"), (("cc-mode", "set", "on", "x"), Refused, "is no PCI address"),
])
def test_refusals(boot: Boot, typed: Any, words: tuple[str, ...], error: type[Exception], message: str) -> None:
    result = typed(boot("hgx-h100", **IDLE), *words)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)


def test_not_applicable_is_no_failure(boot: Boot, typed: Any) -> None:
    result = typed(boot("kunpeng-a100", **IDLE), "cc-mode", "show")
    assert result.exit_code == 0
    assert "0000:81:00.0  nvidia-a100  -         -            not-applicable" in result.stdout
