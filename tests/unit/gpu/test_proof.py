"""A bind is good when a machine could start with the device: refused before, or proven right after, else undone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.sysfs import FakeKernel, Faults
from tests.unit.gpu.acting import do_bind, do_release, planned
from tests.unit.gpu.cases import H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.engine.journal import Journal
from vmtool.errors import NotReady, VerificationFailed
from vmtool.gpu import plan_bind, saved_state
from vmtool.gpu.inventory import read_inventory
from vmtool.gpu.iommu import read_reserved
from vmtool.gpu.pci import DEVICES, read_details
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.proof import known_claim, verify_vfio
from vmtool.gpu.sysfs_writes import BOOT_ID
from vmtool.gpu.view import cells, details, row
from vmtool.gpu.workers import prove
from vmtool.paths import State

T4 = "0000:0a:00.0"
REGIONS = "/sys/kernel/iommu_groups/42/reserved_regions"
DIRECTORY = f"{DEVICES}/{H100[0]}"


def verdict(kernel: FakeKernel, state: State, bdf: str) -> str:
    """As the list has it."""
    inventory = read_inventory(kernel, state)
    device = inventory.find(bdf)
    assert device
    claim = known_claim(inventory, device)
    return claim.verdict if claim else "none"


def test_memory_that_the_firmware_reserves_is_told_before_anything_is_written(boot: Boot, state: State) -> None:
    kernel = boot("rmrr", **IDLE)
    with pytest.raises(NotReady, match="reserves memory for IOMMU group 42") as error:
        planned(kernel, state, T4)
    assert "0x00000000000e8000-0x00000000000e8fff" in error.value.message
    assert "Shared Memory Features" in error.value.hint
    assert kernel.written == []


def test_what_something_else_bound_is_refused_for_it_too(boot: Boot, state: State) -> None:
    """By vfio-pci.ids= at boot: `already bound`, and no machine gets it."""
    kernel = boot("rmrr", **IDLE, links={f"{DEVICES}/{T4}/driver": "../../../../bus/pci/drivers/vfio-pci"})
    assert kernel.driver(T4) == "vfio-pci"
    with pytest.raises(NotReady, match="reserves memory for IOMMU group 42"):
        planned(kernel, state, T4)


@pytest.mark.parametrize("regions", [
    "0x00000000fee00000 0x00000000feefffff msi\n",
    "0x000000009d000000 0x000000009f7fffff direct-relaxable\n0x00000000fee00000 0x00000000feefffff msi\n",
    "0x0000000008000000 0x00000000080fffff msi\n0x0000008000000000 0x0000009fffffffff reserved\n", "",
])
def test_other_regions_keep_nobody_from_it(boot: Boot, state: State, regions: str) -> None:
    kernel = boot("rmrr", **IDLE, texts={REGIONS: regions})
    do_bind(kernel, state, T4)
    assert kernel.driver(T4) == "vfio-pci"


def test_only_the_groups_that_are_taken_are_asked_for_reserved_memory(boot: Boot, state: State) -> None:
    """A management controller's or USB controller's is the host's affair."""
    kernel = boot("hgx-h100", **IDLE, texts={
        "/sys/kernel/iommu_groups/3/reserved_regions": "0x000000007b800000 0x000000007b805fff direct\n"})
    do_bind(kernel, state, H100[0])
    assert read_reserved(kernel, [3, 60]) == {3: ("0x000000007b800000-0x000000007b805fff",)}


def test_a_bind_proves_itself_and_the_list_has_it(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    assert verdict(kernel, state, H100[0]) == "none"
    do_bind(kernel, state, *H100[:2])
    inventory = read_inventory(kernel, state)
    [device] = [each for each in inventory.accelerators if each.bdf == H100[0]]
    item = row(inventory, PciNames(kernel), device, frozenset())
    assert item["viable"] == {"id": "gpu.viable", "verdict": "proven", "evidence":
                              "the kernel gives it to a machine: asked at /dev/vfio/60, and its BARs are free"}
    assert cells(item)[5] == "bound, proven"
    assert "  machine   proven: the kernel gives it" in "\n".join(details(item, ()))
    do_release(kernel, state)
    assert list(saved_state.proofs(state).iterdir()) == []


@pytest.mark.parametrize("opens, evidence", [
    ("domain EPERM", "gives its IOMMU group no domain: a memory region that the firmware reserves, or no interrupt "
                     r"remapping \(EPERM\)"),
    ("container EINVAL", "has no container"), ("status EIO", "the kernel refuses it"),
])
def test_what_the_kernel_refuses_to_a_machine_is_undone(boot: Boot, state: State, opens: str, evidence: str) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.faults[H100[1]] = Faults(opens=opens)
    before, settings = kernel.drivers(), kernel.settings()
    with pytest.raises(VerificationFailed, match="no virtual machine could start with it") as error:
        do_bind(kernel, state, *H100[:3])
    [line] = error.value.details
    assert line.startswith(H100[1])
    assert re.search(evidence, line)
    assert (kernel.drivers(), kernel.settings()) == (before, settings)
    assert Journal(plan_bind.directory(state)).replay().state == "clean"


def test_a_group_that_is_not_viable_after_all_is_undone_with_the_strangers_name(boot: Boot, state: State) -> None:
    """A driver took a group's other device between the check and the bind."""
    other = "0000:02:00.0"
    kernel = boot("desktop", **IDLE, texts={"/sys/class/vtconsole/vtcon1/bind": None},
                  links={f"{DEVICES}/{other}/driver": None})
    kernel.data["names"]["/sys/kernel/iommu_groups/1/devices"] = [other]
    before = kernel.device_write

    def meanwhile(path: str, text: str) -> int | None:
        if path.endswith("drivers_probe"):
            kernel.data["links"][f"{DEVICES}/{other}/driver"] = "../../../bus/pci/drivers/r8169"
        return before(path, text)

    kernel.device_write = meanwhile  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed) as error:
        do_bind(kernel, state, "0000:01:00.0", boot_vga=True)
    assert f"0000:01:00.0: its IOMMU group 1 is not viable: {other} has the driver r8169" in error.value.details
    assert kernel.driver("0000:01:00.0") == "nouveau"


def test_memory_that_somebody_keeps_is_undone(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE, texts={"/proc/iomem": f"a0-af : {H100[0]}\n  a0-a7 : pnp 00:05\n"})
    with pytest.raises(VerificationFailed) as error:
        do_bind(kernel, state, H100[0])
    assert error.value.details == (
        f"{H100[0]}: pnp 00:05 lies in its memory, so no machine can have that BAR (/proc/iomem)",)
    assert kernel.driver(H100[0]) == "nvidia"


def test_without_a_node_there_is_nothing_that_a_machine_could_open(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    exists = kernel.exists
    kernel.exists = lambda path: not path.startswith("/dev/vfio") and exists(path)  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed) as error:
        do_bind(kernel, state, H100[0])
    assert error.value.details == (f"{H100[0]}: VFIO has no node for it that a machine could open",)


@pytest.mark.parametrize("nodes, asked", [
    (("/dev/vfio/60", "/dev/vfio/devices/vfio0"), "/dev/vfio/60"),
    (("/dev/vfio/devices/vfio0",), "/dev/vfio/devices/vfio0"),
], ids=["both", "iommufd alone"])
def test_the_groups_node_is_asked_where_there_is_one(nodes: tuple[str, ...], asked: str) -> None:
    """Opening a device's own node resets it."""
    host = Recorded({"links": {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/vfio-pci",
                               f"{DIRECTORY}/iommu_group": "../../../kernel/iommu_groups/60"},
                     "names": {f"{DIRECTORY}/vfio-dev": ["vfio0"]}, "exists": list(nodes), "open_vfio": {asked: ""}})
    assert verify_vfio(host, [DIRECTORY])[DIRECTORY].verdict == "proven"


@pytest.mark.parametrize("answers, evidence", [
    ({"/dev/vfio/60": "open EBUSY"}, "a machine has it open (/dev/vfio/60)"),
    ({"/dev/vfio/60": "open EACCES"}, "/dev/vfio/60 cannot be opened (EACCES)"),
    ({}, "/dev/vfio/60 did not answer within 5 s"),
])
def test_what_cannot_be_asked_is_not_checked_and_never_proven(answers: dict[str, str], evidence: str) -> None:
    host = Recorded({"links": {f"{DIRECTORY}/driver": "../../../bus/pci/drivers/vfio-pci",
                               f"{DIRECTORY}/iommu_group": "../../../kernel/iommu_groups/60"},
                     "exists": ["/dev/vfio/60"], "open_vfio": answers})
    claim = verify_vfio(host, [DIRECTORY])[DIRECTORY]
    assert (claim.verdict, claim.evidence) == ("not-checked", evidence)


def test_somebody_who_looks_at_that_moment_is_waited_for(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    opened = kernel.open_vfio

    def busy_first(nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        return dict.fromkeys(nodes, "open EBUSY") if kernel.clock < 1.0 else opened(nodes, deadline)

    kernel.open_vfio = busy_first  # type: ignore[method-assign]
    prove.run(prove.Order((DIRECTORY,), saved_state.proofs(state)), kernel)
    assert 1.0 <= kernel.clock < 2.0
    with pytest.raises(VerificationFailed, match="no virtual machine could start"):
        kernel.clock = 0.0
        prove.run(prove.Order((DIRECTORY,), saved_state.proofs(state), deadline=0.5), kernel)


def test_after_a_reboot_it_is_not_checked(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    assert verdict(kernel, state, H100[0]) == "proven"
    kernel.data["texts"][BOOT_ID] = "another boot\n"
    assert verdict(kernel, state, H100[0]) == "not-checked"


def test_a_driver_that_takes_a_neighbour_later_makes_it_failed(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    kernel.data["links"][f"{DEVICES}/{H100[1]}/iommu_group"] = "../../../kernel/iommu_groups/60"
    assert verdict(kernel, state, H100[0]) == "failed"


def test_a_launch_proves_what_was_bound_before_too(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    saved_state.proofs(state).joinpath(H100[0]).unlink()
    kernel.faults[H100[0]] = Faults(opens="domain EPERM")
    with pytest.raises(VerificationFailed):
        do_bind(kernel, state, *H100[:2], owner="instance a")
    assert kernel.driver(H100[1]) == "nvidia"
    kernel.faults.clear()
    do_bind(kernel, state, *H100[:2], owner="instance a")
    assert {verdict(kernel, state, bdf) for bdf in H100[:2]} == {"proven"}


@pytest.mark.parametrize("names, node", [
    (["vfio0"], "vfio0"), (["power", "uevent", "vfio12"], "vfio12"), (["vfio"], None), (["vfio-x"], None),
    (["../vfio1"], None), (["vfio1 "], None), ([], None),
])
def test_a_node_is_called_vfio_and_a_number(names: list[str], node: str | None) -> None:
    host: Any = Recorded.load("gpu-hgx-h100", names={f"{DIRECTORY}/vfio-dev": names})
    assert read_details(host, [H100[0]])[H100[0]].vfio_node == node


def test_proofs_are_files_of_the_state_directory(boot: Boot, state: State) -> None:
    do_bind(boot("hgx-h100", **IDLE), state, H100[0])
    assert Path(saved_state.proofs(state)).is_relative_to(state.root)
    assert oct((saved_state.proofs(state) / H100[0]).stat().st_mode & 0o777) == "0o600"
