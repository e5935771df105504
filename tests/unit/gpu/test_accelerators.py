"""What a launch asks of the GPUs: choose, claim, bind, and the node to pass on."""

from __future__ import annotations

import pytest

from tests.unit.gpu.acting import do_bind
from tests.unit.gpu.conftest import Boot
from tests.unit.gpu.test_bind import H100, IDLE
from vmtool.errors import NotReady
from vmtool.facts.pci import DEVICES
from vmtool.gpu.accelerators import chosen_devices, device_paths, plan_accelerators, wish_of
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.select import Wish
from vmtool.spec import Accelerators
from vmtool.state import State


def test_a_spec_without_accelerators_wants_none() -> None:
    assert wish_of(Accelerators(), "instance a") is None


def test_a_spec_becomes_a_wish() -> None:
    spec = Accelerators.model_validate({"count": 2, "type": "nvidia-h100", "memory": "80Gi"})
    assert wish_of(spec, "instance a") == Wish(type="nvidia-h100", count=2, memory=80 << 30, owner="instance a")


def test_the_steps_claim_before_they_bind(boot: Boot, state: State) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE), state)
    wish = Wish(count=2, owner="instance a")
    titles = [step.title for step in plan_accelerators(state, facts, wish)]
    assert titles == [f"claim {H100[0]}, {H100[1]} for instance a", f"note the drivers of {H100[0]}, {H100[1]}",
                      "load vfio-pci", f"bind {H100[0]}, {H100[1]} to vfio-pci"]
    assert chosen_devices(facts, wish) == H100[:2]


def test_the_group_is_known_before_and_the_own_node_after_the_bind(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    inventory = read_gpu(kernel, state).inventory
    assert device_paths(inventory, H100[:2], "group") == ("/dev/vfio/60", "/dev/vfio/61")
    with pytest.raises(NotReady, match="has no node below /dev/vfio/devices"):
        device_paths(inventory, H100[:1], "iommufd")
    do_bind(kernel, state, H100[0])
    kernel.data["names"][f"{DEVICES}/{H100[0]}/vfio-dev"] = ["vfio3"]
    assert device_paths(read_gpu(kernel, state).inventory, H100[:1], "iommufd") == ("/dev/vfio/devices/vfio3",)


def test_one_node_for_a_group_of_several(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE)
    functions = [f"0000:01:00.{number}" for number in range(4)]
    assert device_paths(read_gpu(kernel, state).inventory, functions, "group") == ("/dev/vfio/1",)


def test_a_device_without_a_group_has_no_node(boot: Boot, state: State) -> None:
    kernel = boot("kunpeng-a100", **IDLE)
    with pytest.raises(NotReady, match="has no IOMMU group"):
        device_paths(read_gpu(kernel, state).inventory, ["0000:81:00.0"], "group")
