"""What goes along with a device: its group, and a discrete card's own functions; never the host's by their place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.gpu.acting import do_bind, do_release, planned
from tests.unit.gpu.cases import CARD, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.errors import NotReady, Refused
from vmtool.gpu.check_scope import is_discrete
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.inventory import read_inventory
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.select import DeviceRequest, select
from vmtool.gpu.view import cells, row
from vmtool.paths import State

APU = "0000:c5:00.0"
PF, VFS = "0000:03:00.0", ("0000:03:00.1", "0000:03:00.2")


def device(bdf: str, ids: str, class_code: str, group: int | None, driver: str = "", **more: str) -> dict[str, Any]:
    """The tables of a recorded host for one device."""
    vendor, number = ids.split(":")
    path = f"{DEVICES}/{bdf}"
    links = {f"{path}/{name}": way for name, way in more.items() if name == "physfn"}
    links |= {f"{path}/iommu_group": f"../../../kernel/iommu_groups/{group}"} if group is not None else {}
    links |= {f"{path}/driver": f"../../../bus/pci/drivers/{driver}"} if driver else {}
    texts = {f"{path}/{name}": f"{text}\n" for name, text in more.items() if name != "physfn"}
    return {"links": links, "texts": texts | {
        f"{path}/vendor": f"0x{vendor}\n", f"{path}/device": f"0x{number}\n", f"{path}/class": f"0x{class_code}\n",
        f"{path}/driver_override": "(null)\n", f"{path}/numa_node": "0\n"}}


def host(*devices: dict[str, Any]) -> dict[str, Any]:
    """Changes that make the recorded flex-vf host into one with other devices."""
    old = Recorded.load("gpu-flex-vf").data
    gone = {table: {path: None for path in old[table] if path.startswith(DEVICES)} for table in ("texts", "links")}
    names = {DEVICES: sorted({path.split("/")[5] for one in devices for path in one["texts"]}), "/proc": None}
    return {"names": names} | {
        table: gone[table] | {path: value for one in devices for path, value in one[table].items()}
        for table in ("texts", "links")}


def bound(boot: Boot, state: State, name: str, changes: dict[str, Any], *bdfs: str, **request: Any) -> set[str]:
    """The devices that are on VFIO after a bind."""
    kernel = boot(name, **changes)
    do_bind(kernel, state, *bdfs, **request)
    return {bdf for bdf, driver in kernel.drivers().items() if "vfio" in driver}


def test_an_apus_gpu_leaves_the_hosts_usb_and_audio_alone(boot: Boot, state: State) -> None:
    assert bound(boot, state, "apu", IDLE, APU, boot_vga=True) == {APU}


def test_what_is_named_goes_along(boot: Boot, state: State) -> None:
    found = bound(boot, state, "apu", IDLE, APU, boot_vga=True, others=("0000:c5:00.1", "0000:c5:00.4"))
    assert found == {APU, "0000:c5:00.1", "0000:c5:00.4"}


def test_what_is_named_and_has_nothing_to_do_with_it_is_refused(boot: Boot, state: State) -> None:
    with pytest.raises(Refused, match=r"--with 0000:01:00\.0: it shares neither card nor IOMMU group"):
        planned(boot("apu", **IDLE), state, APU, boot_vga=True, others=("0000:01:00.0",))


@pytest.mark.parametrize("gpu, others", [
    ("1002:15bf", ("1022:15b9 0c0330",)), ("1002:1638", ("1002:1637 040300", "1022:1639 0c0330")),
    ("1002:164e", ("1002:1640 040300",)), ("1002:15dd", ("1002:15de 040300", "1022:15e0 0c0330", "1022:15e3 040300")),
    ("1002:9874", ("1002:9840 040300",)), ("1002:1586", ("1002:1640 040300",)),
    ("1002:2001", ("1002:aaff 040300", "1022:15b9 0c0330")),
], ids=["Phoenix", "Cezanne", "Raphael", "Raven", "Carrizo", "Strix Halo", "one of the future"])
def test_no_apu_takes_functions_of_other_groups(boot: Boot, state: State, gpu: str, others: tuple[str, ...]) -> None:
    functions = [device(f"0000:c1:00.{number}", ids, class_code, 40 + number, "host_driver")
                 for number, (ids, class_code) in enumerate((other.split() for other in others), 1)]
    changes = host(device("0000:c1:00.0", gpu, "030000", 40, "amdgpu"), *functions)
    assert bound(boot, state, "flex-vf", changes, "0000:c1:00.0") == {"0000:c1:00.0"}


def test_an_apus_usb_in_its_gpus_group_is_foreign_and_not_taken_in_silence(boot: Boot, state: State) -> None:
    """A board without ACS: one group for the whole slot."""
    changes = host(device("0000:c1:00.0", "1002:15dd", "030000", 8, "amdgpu"),
                   device("0000:c1:00.1", "1002:15de", "040300", 8, "snd_hda_intel"),
                   device("0000:c1:00.3", "1022:15e0", "0c0330", 8, "xhci_hcd"))
    with pytest.raises(Refused, match=r"shares IOMMU group 8 with 0000:c1:00\.3") as error:
        planned(boot("flex-vf", **changes), state, "0000:c1:00.0")
    assert "--with 0000:c1:00.3" in error.value.hint
    found = bound(boot, state, "flex-vf", changes, "0000:c1:00.0", others=("0000:c1:00.3",))
    assert found == {"0000:c1:00.0", "0000:c1:00.1", "0000:c1:00.3"}


@pytest.mark.parametrize("gpu, audio, usb", [
    ("10de:2684", "10de:22ba", "10de:1ad8"), ("1002:73bf", "1002:ab28", "1002:73a6"),
    ("1002:744c", "1002:ab30", "1002:7446"),
], ids=["NVIDIA", "Navi 21", "Navi 31"])
def test_a_discrete_cards_own_audio_and_usb_go_along_whatever_their_groups(boot: Boot, state: State, gpu: str,
                                                                          audio: str, usb: str) -> None:
    changes = host(device("0000:03:00.0", gpu, "030000", 20, "amdgpu"),
                   device("0000:03:00.1", audio, "040300", 21, "snd_hda_intel"),
                   device("0000:03:00.2", usb, "0c0330", 22, "xhci_hcd"))
    assert bound(boot, state, "flex-vf", changes, "0000:03:00.0") == {f"0000:03:00.{each}" for each in range(3)}


def test_a_foreign_function_of_a_cards_slot_stays(boot: Boot, state: State) -> None:
    changes = host(device("0000:03:00.0", "10de:2684", "030000", 20, "nvidia"),
                   device("0000:03:00.1", "8086:1521", "020000", 21, "igb"))
    assert bound(boot, state, "flex-vf", changes, "0000:03:00.0") == {"0000:03:00.0"}


@pytest.mark.parametrize("bdf, ids, discrete", [
    ("0000:00:02.0", "8086:a780", False), ("0000:03:00.0", "8086:56a0", True), ("0000:01:00.0", "10de:2330", True),
    ("0000:03:00.0", "1002:73bf", True), ("0000:04:00.0", "1002:1638", False), ("0000:01:05.0", "1002:9715", False),
    ("0000:43:00.0", "1002:740f", True), ("0009:01:00.0", "10de:2342", True),
])
def test_what_is_a_card(state: State, bdf: str, ids: str, discrete: bool) -> None:
    inventory = read_inventory(Recorded(device(bdf, ids, "030000", 1) | {"names": {DEVICES: [bdf]}}), state)
    assert is_discrete(inventory, inventory.devices[0]) is discrete


def test_one_gpu_of_a_board_goes_without_the_others(boot: Boot, state: State) -> None:
    """Four GPUs behind one switch, each in a group of its own; the switch's ports are bridges."""
    gpus = [device(f"0000:0{4 + number}:00.0", "10de:25b6", "030200", 50 + number, "nvidia") for number in range(4)]
    changes = host(device("0000:02:00.0", "10b5:8747", "060400", 50, "pcieport"), *gpus)
    assert bound(boot, state, "flex-vf", changes, "0000:04:00.0") == {"0000:04:00.0"}


@pytest.mark.parametrize("driver", ["pcieport", "pci-stub"])
def test_a_driver_that_leaves_dma_alone_does_not_stop_a_group(boot: Boot, state: State, driver: str) -> None:
    changes = host(device("0000:04:00.0", "10de:25b6", "030200", 50, "nvidia"),
                   device("0000:04:01.0", "10b5:0001", "060900", 50, driver))
    assert bound(boot, state, "flex-vf", changes, "0000:04:00.0") == {"0000:04:00.0"}


def test_a_virtual_function_goes_by_itself_and_comes_back_by_itself(boot: Boot, state: State) -> None:
    kernel = boot("flex-vf", **IDLE)
    do_bind(kernel, state, *VFS)
    assert kernel.drivers() | {"0000:00:00.0": ""} == {
        "0000:00:00.0": "", PF: "i915", VFS[0]: "vfio-pci", VFS[1]: "vfio-pci"}
    do_release(kernel, state, VFS[0])
    assert (kernel.driver(VFS[0]), kernel.driver(VFS[1])) == ("", "vfio-pci")


def test_a_divided_gpu_is_refused_for_one_of_its_virtual_functions(boot: Boot, state: State) -> None:
    kernel = boot("flex-vf", **IDLE)
    do_bind(kernel, state, VFS[0])
    with pytest.raises(NotReady, match=f"{PF} has 2 virtual functions, which would go with it") as error:
        planned(kernel, state, PF)
    assert error.value.hint == f"vmtool gpu bind {VFS[1]}", "no hint destroys what guests use"


@pytest.mark.parametrize("request_, chosen", [
    ({"count": 1}, VFS[:1]), ({"count": 2}, VFS), ({"everything": True}, VFS), ({"type": "intel-56c0"}, VFS),
])
def test_choosing_takes_virtual_functions_and_not_what_they_are_of(boot: Boot, state: State, request_: dict[str, Any],
                                                                   chosen: tuple[str, ...]) -> None:
    devices, problems = select(read_gpu(boot("flex-vf", **IDLE), state), DeviceRequest(**request_))
    assert (tuple(one.bdf for one in devices), problems) == (chosen, [])


def test_no_more_are_free_than_there_are_virtual_functions(boot: Boot, state: State) -> None:
    _, [problem] = select(read_gpu(boot("flex-vf", **IDLE), state), DeviceRequest(count=3))
    assert problem.detail == "3 wanted, but 2 are free"


def test_virtual_functions_come_before_a_whole_gpu_and_have_no_whole_memory(boot: Boot, state: State) -> None:
    vf = device("0000:41:00.4", "10de:20b5", "030200", 61, physfn="../0000:41:00.0")
    changes = host(device("0000:21:00.0", "10de:20b5", "030200", 59, "nvidia", sriov_numvfs="0"),
                   device("0000:41:00.0", "10de:20b5", "030200", 60, "nvidia", sriov_numvfs="1"), vf)
    facts = read_gpu(boot("flex-vf", **changes), state)
    assert [one.bdf for one in select(facts, DeviceRequest(count=1))[0]] == ["0000:41:00.4"]
    assert [one.bdf for one in select(facts, DeviceRequest(count=1, memory=80 << 30))[0]] == ["0000:21:00.0"]
    assert [one.bdf for one in select(facts, DeviceRequest(count=2))[0]] == ["0000:41:00.4", "0000:21:00.0"]


def test_virtual_functions_on_other_buses_are_their_physical_functions_too(boot: Boot, state: State) -> None:
    """More than seven do not fit its slot; and the count alone tells as well (sriov_numvfs)."""
    vfs = [device(f"0000:04:0{number}.0", "8086:56c0", "030000", 30 + number, physfn="../0000:03:00.0")
           for number in range(2)]
    changes = host(device(PF, "8086:56c0", "030000", 20, "i915"), *vfs)
    assert bound(boot, state, "flex-vf", changes, count=2) == {"0000:04:00.0", "0000:04:01.0"}
    with pytest.raises(NotReady, match="2 virtual functions"):
        planned(boot("flex-vf", **changes), state, PF)


def test_a_virtual_function_in_its_physical_functions_group_is_refused_first(boot: Boot, state: State) -> None:
    """Without ACS. --group must not take what the other virtual functions hang on."""
    links = {f"{DEVICES}/{VFS[0]}/iommu_group": "../../../kernel/iommu_groups/20"}
    for group in (False, True):
        with pytest.raises(NotReady, match=f"shares IOMMU group 20 with {PF}.* the physical function") as error:
            planned(boot("flex-vf", **IDLE, links=links), state, VFS[0], group=group)
        assert "ACS" in error.value.hint


def test_a_virtual_function_of_one_that_is_on_vfio_itself_needs_a_token(boot: Boot, state: State) -> None:
    links = {f"{DEVICES}/{PF}/driver": "../../../bus/pci/drivers/vfio-pci"}
    with pytest.raises(NotReady, match="only to a machine that knows its token") as error:
        planned(boot("flex-vf", **IDLE, links=links), state, VFS[0])
    assert error.value.hint == f"vmtool gpu release {PF}"


def test_the_list_tells_physical_and_virtual_functions(boot: Boot, state: State) -> None:
    kernel = boot("flex-vf", **IDLE)
    inventory = read_inventory(kernel, state)
    items = [row(inventory, PciNames(kernel), one, frozenset()) for one in inventory.accelerators]
    assert [(item["sriov"], item["physfn"], item["virtual_functions"]) for item in items] == [
        ("pf", None, list(VFS)), ("vf", PF, []), ("vf", PF, [])]
    assert [cells(item)[5] for item in items] == ["host, PF with 2 VFs", f"driverless, VF of {PF}",
                                                  f"driverless, VF of {PF}"]


def test_a_whole_card_is_released_by_one_of_its_functions(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE, texts={"/sys/class/vtconsole/vtcon1/bind": None})
    do_bind(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",))
    do_release(kernel, state, CARD[1])
    assert not [bdf for bdf in CARD if "vfio" in kernel.driver(bdf)]
