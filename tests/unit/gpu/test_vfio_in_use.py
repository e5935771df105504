"""Who has a device of VFIO open, by its nodes: a process, or nobody that can be seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.host import FakeHost
from tests.fakes.recorded import Recorded
from vmtool.errors import VmtoolError
from vmtool.gpu.actions import AwaitVfioUnused
from vmtool.gpu.vfio_in_use import devices_in_use

BDF = "0000:41:00.0"
DIRECTORY = f"/sys/bus/pci/devices/{BDF}"
LINKS = {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/vfio-pci",
         f"{DIRECTORY}/iommu_group": "../../../kernel/iommu_groups/81"}
HOLDER = {"/proc/7/fd/3": "/dev/vfio/81", "/proc/8/fd/3": "/dev/vfio/devices/vfio0", "/proc/9/fd/1": "/dev/null"}


def host(answers: dict[str, bool] | None = None, **changes: Any) -> Recorded:
    """A host whose nodes give these answers: free, unless the test says otherwise."""
    data = {"links": LINKS, "names": {f"{DIRECTORY}/vfio-dev": ["vfio0"], "/proc": []}} | changes
    return Recorded(data | {"busy": {"/dev/vfio/81": False} if answers is None else answers})


def test_a_free_device() -> None:
    assert devices_in_use(host(), [DIRECTORY]) == []


def test_a_process_is_named_by_the_groups_node_or_the_devices_own() -> None:
    names = {f"{DIRECTORY}/vfio-dev": ["vfio0"], "/proc": ["7", "8", "9"]}
    texts = {"/proc/7/comm": "qemu-system-x86\n", "/proc/8/comm": "other\n", "/proc/9/comm": "sh\n"}
    assert devices_in_use(host(links=LINKS | HOLDER, names=names, texts=texts), [DIRECTORY]) == [
        f"{BDF} is held by pid 7 (qemu-system-x86)", f"{BDF} is held by pid 8 (other)"]


@pytest.mark.parametrize("answers", [{"/dev/vfio/81": True}, {}], ids=["busy", "no answer"])
def test_a_device_that_no_process_seems_to_have_can_be_held_still(answers: dict[str, bool]) -> None:
    held = f"{BDF} is held in the kernel, by no process that can be seen"
    assert devices_in_use(host(answers), [DIRECTORY]) == [held]


def test_what_vfio_does_not_have_is_not_asked() -> None:
    links = LINKS | {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/nvidia"}
    assert devices_in_use(host({}, links=links), [DIRECTORY]) == []
    assert devices_in_use(host({}, links={}), [DIRECTORY]) == []


class Letting(FakeHost):
    """Its device is let go after a while."""

    def busy(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, bool]:
        return dict.fromkeys(nodes, self.clock < self.free_at)

    free_at = 0.5


def test_it_is_waited_for() -> None:
    waiting = Letting(host())
    AwaitVfioUnused((DIRECTORY,)).do(waiting)
    assert 0.5 <= waiting.clock < 1.0


def test_one_that_stays_in_use_is_told() -> None:
    waiting = Letting(host())
    waiting.free_at = 1000.0
    with pytest.raises(VmtoolError, match="a machine still has it open") as error:
        AwaitVfioUnused((DIRECTORY,), deadline=3.0).do(waiting)
    assert error.value.details == (f"{BDF} is held in the kernel, by no process that can be seen",)
