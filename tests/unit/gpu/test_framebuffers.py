"""The firmware's framebuffer in a GPU's memory: whose it is, refused without --boot-vga, taken off and put back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.recorded import Recorded
from tests.fakes.sysfs import Faults
from tests.unit.gpu.acting import do_bind, planned
from tests.unit.gpu.cases import CARD, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.errors import Refused, VerificationFailed
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.framebuffers import Framebuffer, inside_bars, read_framebuffers
from vmtool.gpu.pci import DEVICES
from vmtool.paths import State

GPU = "0000:c3:00.0"
DRIVER = "/sys/bus/platform/drivers/{}/{}"
TREE = f"../../../../devices/pci0000:00/0000:00:08.1/{GPU}"
MEMORY = """\
d0000000-e1ffffff : PCI Bus 0000:c3
  d0000000-dfffffff : 0000:c3:00.0
    d0000000-d07e8fff : {}
  e0000000-e1ffffff : 0000:c3:00.0
e2000000-e20fffff : PCI Bus 0000:c1
  e2000000-e200ffff : 0000:c1:00.0
    e2000000-e200ffff : r8169
"""


def iomem(*names: str) -> dict[str, Any]:
    lines = "".join(f"{'  ' * (2 + depth)}d0000000-d07e8fff : {name}\n" for depth, name in enumerate(names))
    return {"/proc/iomem": MEMORY.replace("    d0000000-d07e8fff : {}\n", lines)}


@pytest.mark.parametrize("links, names, found", [
    ({DRIVER.format("simple-framebuffer", "simple-framebuffer.0"): "../../../../devices/platform/simple-framebuffer.0"},
     ("BOOTFB", "simpledrm"), Framebuffer(GPU, "simple-framebuffer.0", "simple-framebuffer", ("BOOTFB", "simpledrm"))),
    ({DRIVER.format("efi-framebuffer", "efi-framebuffer.0"): "../../../../devices/platform/efi-framebuffer.0"},
     ("efifb",), Framebuffer(GPU, "efi-framebuffer.0", "efi-framebuffer", ("efifb",))),
    ({DRIVER.format("vesa-framebuffer", "vesa-framebuffer.0"): "../../../../devices/platform/vesa-framebuffer.0"},
     ("vesadrm",), Framebuffer(GPU, "vesa-framebuffer.0", "vesa-framebuffer", ("vesadrm",))),
    ({DRIVER.format("simple-framebuffer", "simple-framebuffer.0"): f"{TREE}/simple-framebuffer.0"}, (),
     Framebuffer(GPU, "simple-framebuffer.0", "simple-framebuffer", ())),
    ({"/sys/class/graphics/fb0": f"../../devices/pci0000:00/0000:00:08.1/{GPU}/efi-framebuffer.0/graphics/fb0"}, (),
     Framebuffer(GPU, "efi-framebuffer.0", "efi-framebuffer", ())),
    ({"/sys/class/drm/card0": "../../devices/platform/simple-framebuffer.0/drm/card0"}, ("simple-framebuffer.0",),
     Framebuffer(GPU, "simple-framebuffer.0", "simple-framebuffer", ("simple-framebuffer.0",))),
    ({}, ("BOOTFB",), Framebuffer(GPU, "", "", ("BOOTFB",))),
    ({}, ("amdgpu",), None),
    ({DRIVER.format("simple-framebuffer", "simple-framebuffer.0"): "../../../../devices/platform/simple-framebuffer.0"},
     (), None),
], ids=["simpledrm", "efifb", "vesadrm", "a child of the PCI device", "fb0 alone", "its own name", "without a driver",
        "a real driver", "of no PCI device"])
def test_whose_memory_it_is_in(links: dict[str, str], names: tuple[str, ...], found: Framebuffer | None) -> None:
    host = Recorded({"links": links, "texts": iomem(*names)})
    assert read_framebuffers(host) == ((found,) if found else ())


def test_what_lies_inside_of_bars() -> None:
    assert inside_bars(iomem("BOOTFB", "simpledrm")["/proc/iomem"]) == {
        GPU: ("BOOTFB", "simpledrm"), "0000:c1:00.0": ("r8169",)}
    virtual = "a0-af : 0000:03:00.0\n  a0-a7 : 0000:03:00.1\n    a0-a7 : vfio-pci\n"
    assert inside_bars(virtual)["0000:03:00.1"] == ("vfio-pci",)
    hidden = iomem("BOOTFB")["/proc/iomem"].replace("d0000000-d07e8fff", "00000000-00000000")
    assert inside_bars(hidden)[GPU] == ("BOOTFB",), "who is not root sees the tree without addresses"


def test_it_is_refused_with_its_names(boot: Boot, state: State) -> None:
    with pytest.raises(Refused) as error:
        planned(boot("bootfb", **IDLE), state, GPU)
    assert error.value.details == (
        f"{GPU}: the firmware's framebuffer lies in its memory (simple-framebuffer.0, BOOTFB, simpledrm), so no "
        "machine could have that (--boot-vga takes it, and the text console with it)",
        f"{GPU} draws the text console (--boot-vga takes it)")


def test_who_draws_on_it_is_named(boot: Boot, state: State) -> None:
    kernel = boot("bootfb", names={"/proc": ["77"]}, links={"/proc/77/fd/3": "/dev/fb0"},
                  texts={"/proc/77/comm": "kmscon\n"})
    facts = read_gpu(kernel, state)
    device = facts.inventory.find(GPU)
    assert device
    assert [holder.command for holder in facts.holders_of(device)] == ["kmscon"]


def test_it_is_taken_off_before_the_bind_and_the_region_goes_with_the_bar(boot: Boot, state: State) -> None:
    kernel = boot("bootfb", **IDLE)
    do_bind(kernel, state, GPU, boot_vga=True)
    assert kernel.driver(GPU) == "vfio-pci"
    assert inside_bars(kernel.text("/proc/iomem") or "") == {}
    assert kernel.platform == {"simple-framebuffer.0": ""}
    step = plans.step(planned(boot("bootfb", **IDLE), state, GPU, boot_vga=True), "take the firmware's framebuffer")
    driver = "/sys/bus/platform/drivers/simple-framebuffer"
    assert [action.shell().splitlines()[-1].rpartition("|| ")[2] for action in step.actions][:3] == [
        f"echo simple-framebuffer.0 > {driver}/unbind", f"echo 1 > {DEVICES}/{GPU}/remove",
        "echo 1 > /sys/bus/pci/rescan"]


@pytest.mark.parametrize("class_code, boot_vga, release, removed", [
    ("0x030000", "1", "6.18.48", False), ("0x030000", "1", "5.15.0", True), ("0x030000", "0", "6.18.48", True),
    ("0x030200", "1", "6.18.48", True), ("0x038000", "0", "6.18.48", True),
])
def test_vfio_frees_a_vga_boot_display_by_itself(boot: Boot, state: State, class_code: str, boot_vga: str, release: str,
                                                 removed: bool) -> None:
    texts = {f"{DEVICES}/{GPU}/class": f"{class_code}\n", f"{DEVICES}/{GPU}/boot_vga": f"{boot_vga}\n",
             "/proc/sys/kernel/osrelease": f"{release}\n", f"/lib/modules/{release}/modules.dep": "vfio/vfio-pci.ko:\n"}
    kernel = boot("bootfb", **IDLE, texts=texts)
    do_bind(kernel, state, GPU, boot_vga=True)
    assert ((f"{DEVICES}/{GPU}/remove", "1") in kernel.written) is removed


def test_a_driver_without_a_region_of_its_own_only_lets_go(boot: Boot, state: State) -> None:
    """As efifb, whose memory is the driver's."""
    kernel = boot("bootfb", **IDLE, texts=iomem("efifb"))
    do_bind(kernel, state, GPU, boot_vga=True)
    assert not [path for path, _ in kernel.written if path.endswith(("remove", "rescan"))]
    assert kernel.driver(GPU) == "vfio-pci"


def test_a_bind_that_fails_puts_it_back(boot: Boot, state: State) -> None:
    kernel = boot("bootfb", **IDLE)
    kernel.faults[GPU] = Faults(opens="domain EPERM")
    with pytest.raises(VerificationFailed):
        do_bind(kernel, state, GPU, boot_vga=True)
    assert kernel.platform == {"simple-framebuffer.0": "simple-framebuffer"}
    assert kernel.text("/sys/class/vtconsole/vtcon1/bind") == "1\n"
    assert kernel.driver(GPU) == ""


def test_a_framebuffer_that_does_not_come_back_stops_no_undo(boot: Boot, state: State) -> None:
    """Its firmware's memory may be gone: ENODEV, as many have seen."""
    kernel = boot("bootfb", **IDLE)
    kernel.faults[GPU] = Faults(opens="domain EPERM")
    answer = kernel.platform_write

    def refuse(path: str, text: str) -> int | None:
        found = answer(path, text)
        if path.endswith("simple-framebuffer/bind"):
            kernel.answer = 19
        return found

    kernel.platform_write = refuse  # type: ignore[method-assign]
    with pytest.raises(VerificationFailed) as error:
        do_bind(kernel, state, GPU, boot_vga=True)
    assert not [line for line in error.value.details if "undo" in line]
    assert kernel.text("/sys/class/vtconsole/vtcon1/bind") == "1\n"


def test_it_is_back_at_the_next_boot_so_a_persistent_bind_is_refused(boot: Boot, state: State) -> None:
    with pytest.raises(Refused, match="will be in its memory at the next boot again") as error:
        planned(boot("bootfb", **IDLE), state, GPU, boot_vga=True, persist=True)
    assert "initcall_blacklist=sysfb_init" in error.value.hint


def test_a_display_with_a_real_driver_has_none(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE)
    titles = [step.title for step in planned(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",)).steps]
    assert not [title for title in titles if "framebuffer" in title]
