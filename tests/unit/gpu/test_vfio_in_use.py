"""Who has a device of VFIO open, by its nodes: a process, or nobody that can be seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from vmtool.gpu import vfio_in_use
from vmtool.gpu.vfio_in_use import await_free, held
from vmtool.plan import AwaitFree

BDF = "0000:41:00.0"
DIRECTORY = f"/sys/bus/pci/devices/{BDF}"
LINKS = {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/vfio-pci",
         f"{DIRECTORY}/iommu_group": "../../../kernel/iommu_groups/81"}
HOLDER = {"/proc/7/fd/3": "/dev/vfio/81", "/proc/8/fd/3": "/dev/vfio/devices/vfio0", "/proc/9/fd/1": "/dev/null"}


def host(**changes: Any) -> Recorded:
    data = {"links": LINKS, "names": {f"{DIRECTORY}/vfio-dev": ["vfio0"], "/proc": []}} | changes
    return Recorded(data)


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a look at each group's node finds."""
    found = {"/dev/vfio/81": ""}
    monkeypatch.setattr(vfio_in_use, "read_guarded", lambda paths, read, deadline: {
        path: found[path] for path in paths if path in found})
    return found


def test_a_free_device() -> None:
    assert held([DIRECTORY], host()) == []


def test_a_process_is_named_by_the_groups_node_or_the_devices_own() -> None:
    names = {f"{DIRECTORY}/vfio-dev": ["vfio0"], "/proc": ["7", "8", "9"]}
    texts = {"/proc/7/comm": "qemu-system-x86\n", "/proc/8/comm": "other\n", "/proc/9/comm": "sh\n"}
    assert held([DIRECTORY], host(links=LINKS | HOLDER, names=names, texts=texts)) == [
        f"{BDF} is held by pid 7 (qemu-system-x86)", f"{BDF} is held by pid 8 (other)"]


@pytest.mark.parametrize("answer", ["busy", None])
def test_a_device_that_no_process_seems_to_have_can_be_held_still(answers: dict[str, str], answer: str | None) -> None:
    del answers["/dev/vfio/81"]
    answers |= {"/dev/vfio/81": answer} if answer else {}
    assert held([DIRECTORY], host()) == [f"{BDF} is held in the kernel, by no process that can be seen"]


def test_what_vfio_does_not_have_is_not_asked(answers: dict[str, str]) -> None:
    answers.clear()
    links = LINKS | {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/nvidia"}
    assert held([DIRECTORY], host(links=links)) == []
    assert held([DIRECTORY], host(links={})) == []


def test_it_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [["held"], ["held"], []]
    monkeypatch.setattr(vfio_in_use, "held", lambda directories: told.pop(0))
    monkeypatch.setattr(vfio_in_use, "POLL", 0)
    await_free(AwaitFree((DIRECTORY,)))
    assert told == []
