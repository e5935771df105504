"""Choosing devices: by type, count and memory, near to each other first; what a device is by its class and id."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gpu.cases import H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.gpu.device_types import has_cc_mode, kind_of, type_of
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.pci import PciDevice
from vmtool.gpu.select import DeviceRequest, select
from vmtool.paths import State


def device(vendor: int, number: int, class_code: int) -> PciDevice:
    return PciDevice("0000:01:00.0", vendor, number, class_code, "", "", "", None)


@pytest.mark.parametrize("one, kind, type_, cc", [
    (device(0x10DE, 0x2330, 0x030200), "gpu", "nvidia-h100", True),
    (device(0x10DE, 0x2331, 0x030200), "gpu", "nvidia-h100", True),
    (device(0x10DE, 0x20F1, 0x030200), "gpu", "nvidia-a100", False),
    (device(0x10DE, 0x26BA, 0x030200), "gpu", "nvidia-l20", False),
    (device(0x10DE, 0x2901, 0x030200), "gpu", "nvidia-b200", True),
    (device(0x10DE, 0x22A3, 0x068000), "nvswitch", "nvidia-nvswitch", True),
    (device(0x10DE, 0x1AF1, 0x068000), "nvswitch", "nvidia-nvswitch", False),
    (device(0x8086, 0x22A3, 0x068000), "", "intel-22a3", False),
    (device(0x10DE, 0x22B1, 0x060400), "bridge", "nvidia-22b1", False),
    (device(0x8086, 0x09A2, 0x060000), "bridge", "intel-09a2", False),
    (device(0x1A03, 0x2000, 0x030000), "", "1a03-2000", False),
    (device(0x1002, 0x740F, 0x038000), "gpu", "amd-mi210", False),
    (device(0x1002, 0x74A1, 0x120000), "accelerator", "amd-mi300x", False),
    (device(0x1DA3, 0x1020, 0x120000), "accelerator", "habana-gaudi2", False),
    (device(0x19E5, 0xD802, 0x120000), "accelerator", "huawei-ascend910", False),
    (device(0x144D, 0xA80A, 0x010802), "", "144d-a80a", False),
])
def test_what_a_device_is(one: PciDevice, kind: str, type_: str, cc: bool) -> None:
    assert (kind_of(one), type_of(one), has_cc_mode(one)) == (kind, type_, cc)


def test_an_unknown_model_has_its_type_from_its_name() -> None:
    assert type_of(device(0x10DE, 0x1E07, 0x030000), "TU102 [GeForce RTX 2080 Ti Rev. A]") == (
        "nvidia-geforce-rtx-2080-ti-rev-a")


@pytest.mark.parametrize("wish, chosen", [
    ({"everything": True}, 12), ({"type": "nvidia-h100"}, 8), ({"type": "nvidia-nvswitch"}, 4), ({"count": 3}, 3),
    ({"count": 8}, 8), ({"type": "nvidia-h100", "memory": 80 << 30}, 8), ({"bdfs": (H100[5], "0000:07:00.0")}, 2),
])
def test_choosing(boot: Boot, state: State, wish: dict[str, Any], chosen: int) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE), state)
    devices, problems = select(facts, DeviceRequest(**wish))
    assert problems == []
    assert len(devices) == chosen


@pytest.mark.parametrize("wish, message", [
    ({"type": "nvidia-a100"}, "there is no nvidia-a100"), ({"count": 9}, "9 wanted, but 8 are free"),
    ({"memory": 141 << 30, "count": 1}, "there is no accelerator with 141 GiB"),
])
def test_what_cannot_be_chosen_is_told(boot: Boot, state: State, wish: dict[str, Any], message: str) -> None:
    facts = read_gpu(boot("hgx-h100", **IDLE), state)
    devices, [problem] = select(facts, DeviceRequest(**wish))
    assert devices == ()
    assert problem.detail == message


def test_a_count_stays_within_a_numa_node_and_takes_the_smallest_that_suffices(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE, texts={f"/sys/bus/pci/devices/{H100[3]}/numa_node": "1\n"})
    facts = read_gpu(kernel, state)
    assert [one.bdf for one in select(facts, DeviceRequest(count=3))[0]] == list(H100[:3])
    assert [one.bdf for one in select(facts, DeviceRequest(count=4))[0]] == list(H100[3:7])
    seven = {one.bdf for one in select(facts, DeviceRequest(count=7))[0]}
    assert len(seven & set(H100[3:])) == 5, "the larger node first"


def test_a_machine_that_runs_keeps_its_device(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.data["links"][f"/sys/bus/pci/devices/{H100[0]}/driver"] = "../../../bus/pci/drivers/vfio-pci"
    kernel.data["names"]["/proc"] = ["77"]
    kernel.data["links"]["/proc/77/fd/9"] = "/dev/vfio/60"
    assert select(read_gpu(kernel, state), DeviceRequest(count=1))[0][0].bdf == H100[1]
