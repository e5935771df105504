"""udev's database through the real libudev, in a mount namespace where the test's files lie below /run/udev."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from vmtool.host import udev
from vmtool.host.local import LocalHost

DEVICES = Path("/sys/bus/pci/devices")


@pytest.fixture
def device() -> str:
    found = sorted(os.listdir(DEVICES)) if DEVICES.is_dir() else []
    if not found or os.geteuid():
        pytest.skip("needs a PCI device and root")
    return str(DEVICES / found[0])


def told(tmp_path: Path, device: str, *fifo: Path) -> dict[str, Any]:
    database = tmp_path / "run" / "udev" / "data"
    database.mkdir(parents=True)
    (database / f"+pci:{os.path.basename(device)}").write_text("I:7\nE:ID_MODEL_FROM_DATABASE=GH100 [H100 = SXM5]\n")
    result = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.integration.udev_view",
         str(tmp_path / "run"), device, *map(str, fifo)], check=True, capture_output=True, text=True, timeout=60)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_properties_come_from_the_database_and_of_no_device_there_are_none(tmp_path: Path, device: str) -> None:
    answer = told(tmp_path, device)
    assert answer["found"]["ID_MODEL_FROM_DATABASE"] == "GH100 [H100 = SXM5]"
    assert answer["found"]["SUBSYSTEM"] == "pci"
    assert answer["absent"] == {}


def test_a_device_whose_uevent_never_answers_is_left_after_the_deadline(tmp_path: Path, device: str) -> None:
    os.mkfifo(tmp_path / "uevent")
    answer = told(tmp_path, device, tmp_path / "uevent")
    assert answer["found"] == {}
    assert answer["seconds"] >= 1.0


@pytest.mark.timing
def test_a_node_that_comes_late_is_seen_without_udev_and_one_that_does_not_is_given_up(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udev, "CONTROL", str(tmp_path / "no udevd"))
    node = tmp_path / "vfio0"
    timer = threading.Timer(0.2, node.touch)
    timer.start()
    assert LocalHost().await_node(str(node), 30.0)
    timer.join()
    assert not LocalHost().await_node(str(tmp_path / "vfio1"), 0.1)


@pytest.mark.timing
def test_a_node_that_comes_without_an_event_is_seen_with_udev_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "control").touch()
    monkeypatch.setattr(udev, "CONTROL", str(tmp_path / "control"))
    assert udev._monitor() is not None
    node = tmp_path / "vfio0"
    timer = threading.Timer(0.2, node.touch)
    timer.start()
    assert LocalHost().await_node(str(node), 30.0)
    timer.join()
    assert not LocalHost().await_node(str(tmp_path / "vfio1"), 0.1)
