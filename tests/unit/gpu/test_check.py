"""Refusals: every problem at once, each with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gpu.acting import planned
from tests.unit.gpu.cases import CARD, H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.gpu.pci import DEVICES
from vmtool.paths import State


def problems(error: VmtoolError) -> list[str]:
    """What a refusal lists, with its hints."""
    return list(error.details) or [f"{error.message.partition(': ')[2]} ({error.hint})"]


def refused(boot: Boot, state: State, name: str, bdfs: tuple[str, ...], changes: dict[str, Any] | None = None,
            **wish: Any) -> VmtoolError:
    kernel = boot(name, **(changes or {}))
    with pytest.raises((Refused, NotReady)) as error:
        planned(kernel, state, *bdfs, **wish)
    assert kernel.written == []
    return error.value


def test_every_bad_address_is_told_at_once(boot: Boot, state: State) -> None:
    error = refused(boot, state, "hgx-h100", ("18:00.0", "nonsense", "0000:ff:00.0", "0000:17:00.0", "0000:04:00.0"),
                    IDLE)
    assert error.code == 2
    assert [problem.partition(" (")[0] for problem in problems(error)] == [
        "'18:00.0' is no PCI address", "'nonsense' is no PCI address", "0000:ff:00.0: there is no such device",
        "0000:17:00.0 is a bridge", "0000:04:00.0 is no accelerator"]
    assert "write it in full: 0000:18:00.0" in problems(error)[0]


def test_a_foreign_group_member_is_refused_unless_named(boot: Boot, state: State) -> None:
    error = refused(boot, state, "desktop", (CARD[0],), IDLE, boot_vga=True)
    assert problems(error) == [
        "0000:01:00.0 shares IOMMU group 1 with 0000:02:00.0 (class 0200, r8169) (give it away too with --with "
        "0000:02:00.0, or move the card to another slot; pcie_acs_override would only hide that they are not isolated)",
    ]


def test_the_boot_disk_the_default_route_and_the_display_stay(boot: Boot, state: State) -> None:
    others = ("0000:04:00.0", "0000:16:00.0")
    groups = {f"{DEVICES}/{bdf}/iommu_group": "../../../kernel/iommu_groups/60" for bdf in others}
    error = refused(boot, state, "hgx-h100", (H100[0],), IDLE | {"links": groups}, others=others)
    assert problems(error) == [
        "0000:04:00.0 must stay with the host: its disk nvme0n1p2 is mounted on /",
        "0000:16:00.0 must stay with the host: the default route goes through its ens16np0"]
    assert error.code == 2


def test_a_display_in_use_wants_its_flag(boot: Boot, state: State) -> None:
    error = refused(boot, state, "desktop", (CARD[0],), IDLE, others=("0000:02:00.0",))
    assert list(problems(error)) == [
        "0000:01:00.0 is the display that the machine boots on (--boot-vga takes it, and the text console with it)",
        "0000:01:00.0 draws the text console (--boot-vga takes it)"]


@pytest.mark.parametrize("name, bdf, cpu, hint", [
    ("hgx-h100", H100[0], "vendor_id\t: GenuineIntel\n", "intel_iommu=on"),
    ("hgx-h100", H100[0], "vendor_id\t: AuthenticAMD\n", "AMD-Vi"),
    ("grace", "0009:01:00.0", "CPU implementer\t: 0x41\n", "firmware"),
])
def test_without_an_iommu_the_hint_names_what_this_processor_needs(boot: Boot, state: State, name: str, bdf: str,
                                                                   cpu: str, hint: str) -> None:
    links = dict.fromkeys(f"{DEVICES}/{other}/iommu_group" for other in (bdf,))
    error = refused(boot, state, name, (bdf,), IDLE | {"names": {"/proc": None, "/sys/kernel/iommu_groups": None},
                                                       "texts": {"/proc/cpuinfo": cpu}, "links": links})
    assert error.code == 3
    assert "the IOMMU is off" in error.message
    assert hint in error.hint


def test_what_the_host_lacks_comes_in_one_list(boot: Boot, state: State) -> None:
    release = "/lib/modules/5.15.0-105-generic"
    error = refused(boot, state, "hgx-h100", (H100[0],), {
        "names": {"/proc": None, "/sys/kernel/iommu_groups": None},
        "texts": {"/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\n", f"{release}/modules.dep": None,
                  "/proc/cpuinfo": "vendor_id\t: GenuineIntel\n", f"{DEVICES}/{H100[0]}/sriov_numvfs": "4\n"}})
    assert [problem.partition(" (")[0] for problem in problems(error)] == [
        "binding needs root", "the IOMMU is off: there are no IOMMU groups",
        "the kernel 5.15.0-105-generic has no vfio-pci module",
        f"{H100[0]} has 4 virtual functions, which would go with it"]
    assert "sriov_numvfs" not in problems(error)[3], "the hint destroys no virtual functions"


def test_holders_are_named_with_what_they_hold(boot: Boot, state: State) -> None:
    error = refused(boot, state, "hgx-h100", ("0000:3a:00.0",))
    assert problems(error) == [
        "0000:3a:00.0 is used by nvidia-persiste (pid 1180), which has /dev/nvidia0, /dev/nvidia1, /dev/nvidia2 open "
        "(systemctl stop nvidia-persistenced.service, or --stop-services)",
        "0000:3a:00.0 is used by python3 (pid 4242), which has /dev/nvidia-uvm, /dev/nvidia2, /dev/nvidiactl open "
        "(end it, or wait for it: kill 4242)"]
    assert error.code == 3


def test_who_works_on_another_gpu_is_no_holder(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100")
    plan = planned(kernel, state, H100[0], stop_services=True)
    assert [step.title for step in plan.steps if "services" not in step.title][1] == "stop nvidia-persistenced.service"


def test_stop_services_stops_only_the_known_ones_and_starts_them_on_every_way_out(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100")
    steps = planned(kernel, state, H100[0], stop_services=True).steps
    stop = next(step for step in steps if step.title.startswith("stop"))
    start = next(step for step in steps if step.title.startswith("start"))
    assert [action.shell() for action in stop.actions] == ["systemctl stop nvidia-persistenced.service"]
    assert [action.shell() for action in stop.undo] == ["systemctl start nvidia-persistenced.service"]
    assert [action.shell() for action in start.actions] == ["systemctl --no-block start nvidia-persistenced.service"]
    assert steps.index(start) > max(index for index, step in enumerate(steps) if "bind" in step.title)


def test_persistence_mode_is_a_holder_without_an_open_file(boot: Boot, state: State) -> None:
    query = "nvidia-smi --query-gpu=pci.bus_id,persistence_mode --format=csv,noheader"
    changes = IDLE | {"which": {"nvidia-smi": "/usr/bin/nvidia-smi"},
                      "outputs": {query: {"out": "00000000:18:00.0, Enabled\n00000000:2A:00.0, Disabled\n"}}}
    error = refused(boot, state, "hgx-h100", H100[:2], changes)
    assert problems(error) == [f"{H100[0]} is kept in use by NVIDIA's persistence mode (nvidia-smi -i {H100[0]} -pm 0, "
                               "or --stop-services)"]


def test_display_managers_are_never_stopped(boot: Boot, state: State) -> None:
    error = refused(boot, state, "desktop", (CARD[0],), None, boot_vga=True, stop_services=True,
                    others=("0000:02:00.0",))
    assert [problem.partition(", which")[0] for problem in problems(error)] == [
        "0000:01:00.0 is used by Xorg (pid 900)", "0000:01:00.1 is used by pipewire (pid 2001)"]
    assert "systemctl stop display-manager.service" in problems(error)[0]


def test_the_text_console_is_taken_off_and_given_back(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE)
    steps = planned(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",)).steps
    console = next(step for step in steps if "console" in step.title)
    assert [action.shell() for action in console.actions] == ["echo 0 > /sys/class/vtconsole/vtcon1/bind"]
    assert [action.shell() for action in console.undo] == ["echo 1 > /sys/class/vtconsole/vtcon1/bind"]


def test_another_gpu_of_the_group_wants_group(boot: Boot, state: State) -> None:
    links = {f"{DEVICES}/{H100[1]}/iommu_group": "../../../kernel/iommu_groups/60"}
    error = refused(boot, state, "hgx-h100", (H100[0],), IDLE | {"links": links})
    assert error.hint == "--group takes the accelerators of a group together"
    kernel = boot("hgx-h100", **IDLE, links=links)
    titles = [step.title for step in planned(kernel, state, H100[0], group=True).steps]
    assert f"bind {H100[0]}, {H100[1]} to vfio-pci" in titles


def test_nothing_chosen_is_refused(boot: Boot, state: State) -> None:
    error = refused(boot, state, "hgx-h100", (), IDLE)
    assert error.message == "nothing was bound: nothing is chosen"


def test_without_interrupt_remapping_a_bound_device_would_be_of_no_use(boot: Boot, state: State) -> None:
    changes = IDLE | {"names": {"/proc": None, "/sys/class/iommu": ["dmar0"]},
                      "texts": {"/sys/class/iommu/dmar0/intel-iommu/ecap": "f00f46\n"}}
    error = refused(boot, state, "hgx-h100", (H100[0],), changes)
    assert "does not remap interrupts" in error.message
    remapping = {"/sys/class/iommu/dmar0/intel-iommu/ecap": "f00f4a\n"}
    kernel = boot("hgx-h100", **(changes | {"texts": remapping}))
    assert planned(kernel, state, H100[0]).changes


def test_a_real_gpu_in_a_virtual_machine_is_refused_with_all_that_keeps_it_there(boot: Boot, state: State) -> None:
    """The host is a recording of a real H200, and these are the lines that vmtool printed there."""
    assert problems(refused(boot, state, "h200-vm", ("0000:00:06.0",))) == [
        "the IOMMU is off: there are no IOMMU groups (this host is itself a virtual machine: give it a virtual IOMMU, "
        "or use a bare machine)",
        "the kernel 6.18.44 has no vfio-pci module (install the kernel's modules package, or build it with "
        "CONFIG_VFIO_PCI)",
        "0000:00:06.0 is kept in use by NVIDIA's persistence mode (nvidia-smi -i 0000:00:06.0 -pm 0, or "
        "--stop-services)"]
