"""Taking what the host draws on off a display: its text consoles, and the framebuffer that the firmware set up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vmtool.gpu.actions import ExpectDriver, WriteSysfs
from vmtool.gpu.facts import GpuFacts
from vmtool.gpu.framebuffers import OWN_REGION, PLATFORM, Framebuffer
from vmtool.gpu.pci import DEVICES, PciDevice
from vmtool.plan import Action, Step

RESCAN = (("/sys/bus/pci/rescan", "1"),)


def plan_display(facts: GpuFacts, moving: Iterable[PciDevice], marks: Path) -> tuple[Step, ...]:
    """The steps for the devices that leave the host."""
    devices = {device.bdf: device for device in moving}
    consoles = sorted({console.path for console in facts.consoles if console.bdf in devices})
    found = [each for each in facts.framebuffers if each.bdf in devices]
    again = [each.bdf for each in found if not _vfio_frees(facts, devices[each.bdf], each)]
    return (*([plan_console(consoles, marks)] if consoles else []),
            *([plan_framebuffers(found, again, marks)] if found else []))


def plan_console(paths: Iterable[str], marks: Path) -> Step:
    """Take the text console off the display; undone, it is put back."""
    off = tuple((path, "0") for path in paths)
    on = tuple((path, "1") for path in paths)
    return Step("take the text console off the display", (WriteSysfs(off, marks=marks),),
                undo=(WriteSysfs(on, marks=marks),))


def plan_framebuffers(framebuffers: Sequence[Framebuffer], again: Sequence[str], marks: Path) -> Step:
    """Take the firmware's framebuffers out of the memory of devices.

    Their drivers let go of them. The platform device's own region goes only with the BAR it lies in: the device is
    removed and found again.

    Args:
        again: devices with such a region.
    """
    bound = [each for each in framebuffers if each.device]
    off = WriteSysfs(tuple((f"{PLATFORM}/drivers/{each.driver}/unbind", each.device) for each in bound),
                     tuple((each.directory, each.driver) for each in bound), marks)
    # What vfio-pci has unregistered does not come back, nor does what is not there; then there is nothing to draw on.
    on = WriteSysfs(tuple((f"{PLATFORM}/drivers/{each.driver}/bind", each.device) for each in bound),
                    tuple((each.directory, "") for each in bound), marks, may_fail=True)
    rescan = WriteSysfs(RESCAN, marks=marks)
    found_again: list[Action] = [
        WriteSysfs(tuple((f"{DEVICES}/{bdf}/remove", "1") for bdf in again), marks=marks), rescan,
        # Without the one that it has now had none, so none may take it.
        ExpectDriver(tuple((f"{DEVICES}/{bdf}", "") for bdf in again), marks)] if again else []
    names = ", ".join(each.bdf for each in framebuffers)
    return Step(f"take the firmware's framebuffer off {names}", (*([off] if bound else []), *found_again),
                undo=(*([rescan] if again else []), *([on] if bound else [])))


def _vfio_frees(facts: GpuFacts, device: PciDevice, framebuffer: Framebuffer) -> bool:
    """Whether no region is left once its driver has let go, or vfio-pci unregisters the platform device by itself: of
    the boot display, if its class is VGA (vfio_pci_vga_init in drivers/vfio/pci/vfio_pci_core.c, since 6.0)."""
    if OWN_REGION not in framebuffer.regions:
        return True
    details, release = facts.inventory.details.get(device.bdf), re.match(r"(\d+)\.", facts.vfio.release)
    return (device.base_class == 0x0300 and bool(details and details.boot_vga) and release is not None
            and int(release[1]) >= 6)
