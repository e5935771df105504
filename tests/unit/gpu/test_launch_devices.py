"""What a launch asks of the GPUs: choose, claim, bind, and the node to pass on."""

from __future__ import annotations

import json

import pytest

from tests.fakes.sysfs import FakeKernel
from tests.unit.gpu.acting import Quiet, do_bind, on
from tests.unit.gpu.cases import H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.engine import apply, transactions
from vmtool.errors import NotReady
from vmtool.gpu.after_cleanup import facts_without
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.launch_devices import device_paths, plan_accelerators, request_of, select_accelerators
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.saved_state import records
from vmtool.gpu.select import DeviceRequest
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.spec.resources import Accelerators


def test_a_spec_without_accelerators_wants_none() -> None:
    assert request_of(Accelerators(), "instance a") is None


def test_a_spec_becomes_a_wish() -> None:
    spec = Accelerators.model_validate({"count": 2, "type": "nvidia-h100", "memory": "80Gi"})
    request = DeviceRequest(type="nvidia-h100", count=2, memory=80 << 30, owner="instance a")
    assert request_of(spec, "instance a") == request


def test_the_steps_claim_before_they_bind(boot: Boot, state: State) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE), state)
    wish = DeviceRequest(count=2, owner="instance a")
    titles = [step.title for step in plan_accelerators(state, select_accelerators(facts, wish))]
    assert titles == [f"claim {H100[0]}, {H100[1]} for instance a", f"note the drivers of {H100[0]}, {H100[1]}",
                      "load vfio-pci", f"bind {H100[0]}, {H100[1]} to vfio-pci"]
    assert select_accelerators(facts, wish).bdfs == H100[:2]


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


def do_claim(kernel: FakeKernel, state: State, *bdfs: str) -> Plan:
    """What a launch does with its devices, in a journal of its own."""
    directory = state.instance("a")
    wish = DeviceRequest(bdfs=bdfs, owner="instance a")

    def make() -> Plan:
        chosen = select_accelerators(read_gpu(kernel, state), wish)
        return Plan("instance a", directory, plan_accelerators(state, chosen))

    return transactions.run_transaction(state, directory, "a test", make, Quiet(), on=on(kernel))


@pytest.mark.parametrize("bound_before", [False, True])
def test_a_launch_after_another_finds_the_devices_as_they_are_when_that_one_is_cleared(boot: Boot, state: State,
                                                                                       bound_before: bool) -> None:
    kernel = boot("hgx-h100", **IDLE)
    if bound_before:
        do_bind(kernel, state, H100[0])
    before = read_gpu(kernel, state)
    first = do_claim(kernel, state, H100[0])
    while_it_runs = read_gpu(kernel, state)
    as_if_cleared = facts_without(while_it_runs, "instance a")
    assert not apply.undo(state.instance("a"), Quiet(), on=on(kernel))
    cleared = read_gpu(kernel, state)
    for facts in (as_if_cleared, cleared):
        chosen = select_accelerators(facts, DeviceRequest(bdfs=H100[:1], owner="b"))
        titles = [(step.title, step.skip) for step in plan_accelerators(state, chosen)]
        assert titles == [(step.title.replace("instance a", "b"), "loaded" if "load" in step.title else step.skip)
                          for step in first.steps]
        assert facts.inventory.find(H100[0]) == before.inventory.find(H100[0])
        assert facts.inventory.claims == {}
        assert facts.inventory.records == before.inventory.records


def test_what_others_have_is_not_cleared(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_claim(kernel, state, H100[0])
    facts = read_gpu(kernel, state)
    assert facts_without(facts, "instance b") == facts


def test_a_record_of_an_older_vmtool_counts_as_the_claimants(boot: Boot, state: State) -> None:
    """It has no owner in it; then the launch binds again, which is right whether or not clearing frees the device."""
    kernel = boot("hgx-h100", **IDLE)
    do_claim(kernel, state, H100[0])
    file = records(state) / H100[0]
    old = json.loads(file.read_text())
    assert old.pop("owner") == "instance a"
    assert old.pop("checksum")
    file.write_text(json.dumps(old))
    facts = read_gpu(kernel, state)
    assert facts.inventory.records[H100[0]].owner is None
    device = facts_without(facts, "instance a").inventory.find(H100[0])
    assert device is not None and device.driver == "nvidia"
    assert facts_without(facts, "instance b") == facts
