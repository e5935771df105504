"""`vmtool watch` as a service of a real systemd, over a kill and a reboot.

The machine has no model and no image, so that each try to bring the instance back ends with its reason: what is looked
at is who tries, and when.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.watched import write_instance
from tests.lab import topology
from tests.lab.vm import LabVm
from vmtool.paths import DEFAULT, State

UNIT = "vmtool-watch.service"
DIRECTORY = f"{DEFAULT}/instances/a"


def until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def tries(vm: LabVm) -> int:
    """How often it was begun to bring it back."""
    lines = vm.sh(f"cat {DIRECTORY}/events.jsonl 2>&- || :").splitlines()
    return [json.loads(line)["event"] for line in lines].count("bring-back")


def launched(vm: LabVm, scratch: Path) -> None:
    """An instance in the machine, whose process is a sleep."""
    made = write_instance(State(scratch / "state"), "a", 1)
    process = vm.sh("setsid sleep 36000 >/dev/null 2>&1 & echo $!; cut -d ' ' -f 22 /proc/$!/stat").split()
    (made / "container.pid").write_text(f"{' '.join(process)}\n")
    for path in made.rglob("*"):
        if path.is_file():
            vm.put(f"{DIRECTORY}/{path.relative_to(made)}", path.read_bytes(), 0o600)


@pytest.mark.slow
@pytest.mark.parametrize("vm", [topology.SOLE], indirect=True)
def test_installed_it_keeps_what_was_promised_from_each_boot_on_until_it_is_uninstalled(vm: LabVm,
                                                                                       tmp_path: Path) -> None:
    launched(vm, tmp_path)
    installed = vm.vmtool("watch", "--install")
    assert installed.status == 0, installed.err
    assert vm.sh(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}") == "active\nenabled"
    assert vm.sh(f"systemd-analyze verify {UNIT} 2>&1") == ""
    again = vm.vmtool("watch", "--install")
    assert (again.status, "is there" in again.err) == (0, True)
    assert tries(vm) == 0
    first = vm.sh(f"systemctl show -p MainPID --value {UNIT}")
    vm.sh("pkill -x sleep")
    until(lambda: tries(vm) > 0, "its death is not noticed")
    vm.sh(f"systemctl kill -s KILL {UNIT}")
    until(lambda: vm.sh(f"systemctl show -p MainPID --value {UNIT}") not in ("0", first), "systemd does not start it")
    before = tries(vm)
    until(lambda: tries(vm) > before, "the next watch does not go on")
    vm.reboot()
    before = tries(vm)
    assert vm.sh(f"systemctl is-active {UNIT}") == "active"
    until(lambda: tries(vm) > before, "after a reboot nobody brings it back")
    removed = vm.vmtool("watch", "--uninstall")
    assert removed.status == 0, removed.err
    assert vm.sh(f"systemctl is-active {UNIT} || :") == "inactive"
    assert vm.sh(f"ls /etc/systemd/system/{UNIT} /etc/systemd/system/*/{UNIT} 2>&- || :") == ""
    assert vm.sh(f"ls {DIRECTORY}/instance.json"), "the instances stay"
    assert "is not installed" in vm.vmtool("watch", "--uninstall").err
