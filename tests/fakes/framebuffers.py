"""A kernel's firmware framebuffers: platform devices in a GPU's memory, and what becomes of them.

As the kernel has it: a driver that lets go takes its region with it; the region BOOTFB is the platform device's own and
goes with that, or with the BAR that it lies in (kernel/resource.c, __release_resource).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from vmtool.gpu.framebuffers import DEVICE, DRIVERS, OWN_REGION, PLATFORM, inside_bars
from vmtool.gpu.pci import DEVICES

IOMEM = "/proc/iomem"


class Framebuffers:
    """The part of a `FakeKernel` that has them; `platform` is device -> driver ("" for none)."""

    data: dict[str, Any]
    platform: dict[str, str]
    removed: dict[str, dict[str, dict[str, str]]]
    answer: int
    text: Callable[[str], str | None]

    def platform_devices(self) -> dict[str, str]:
        links: dict[str, str] = self.data["links"]
        found = {path.rpartition("/")[2]: path.split("/")[5] for path in links
                 if path.startswith(f"{PLATFORM}/drivers/") and path.split("/")[5] in DRIVERS}
        ways = [match[1] for way in links.values() if (match := DEVICE.search(way))]
        return {name: name.rpartition(".")[0] for name in ways} | found

    def platform_write(self, path: str, text: str) -> int | None:
        """Answer a write to a platform driver or for a new look at the bus; None when it is neither."""
        words = path.split("/")
        self.answer = 0
        if path == "/sys/bus/pci/rescan":
            for bdf in list(self.removed):
                for table, entries in self.removed.pop(bdf).items():
                    self.data[table] |= entries
            return 0
        if not path.startswith(f"{PLATFORM}/drivers/"):
            return None
        driver, verb = words[5], words[6]
        if text not in self.platform or (self.platform[text] == driver) != (verb == "unbind"):
            self.answer = errno.ENODEV
        else:
            self.platform[text] = "" if verb == "unbind" else driver
            self._show(text, driver, bound=verb == "bind")
        return self.answer

    def _show(self, device: str, driver: str, *, bound: bool) -> None:
        """What a driver's coming and going changes in /sys and in the memory's tree."""
        kept: dict[str, Any] = self.data.setdefault("hidden", {})
        if bound:
            self.data["links"] |= kept.pop(f"links {device}", {})
            self.data["texts"] |= kept.pop(f"texts {device}", {})
            return
        kept[f"links {device}"] = gone = {path: way for path, way in self.data["links"].items()
                                          if f"/{device}" in path + way}
        self.data["links"] = {path: way for path, way in self.data["links"].items() if path not in gone}
        if text := self.text(IOMEM):
            kept[f"texts {device}"] = {IOMEM: text}
            names = [name for inside in inside_bars(text).values() for name in inside if name != OWN_REGION]
            self.data["texts"][IOMEM] = _without(text, names)

    def remove_device(self, bdf: str) -> None:
        """The BAR's region goes, and what lies in it; the device comes back with neither override nor framebuffer."""
        prefix = f"{DEVICES}/{bdf}/"
        self.removed[bdf] = {table: {path: value for path, value in self.data[table].items() if path.startswith(prefix)}
                             for table in ("texts", "links")}
        for table, entries in self.removed[bdf].items():
            self.data[table] = {path: value for path, value in self.data[table].items() if path not in entries}
        self.removed[bdf]["texts"][f"{prefix}driver_override"] = "(null)\n"
        self._empty(bdf)

    def free_display(self, bdf: str) -> None:
        """vfio-pci unregisters the platform device of a VGA display (since 6.0)."""
        is_vga = (self.text(f"{DEVICES}/{bdf}/class") or "").startswith("0x0300")
        if is_vga and (self.text(f"{DEVICES}/{bdf}/boot_vga") or "").strip() == "1":
            self._empty(bdf)
            self.platform.clear()

    def _empty(self, bdf: str) -> None:
        if text := self.text(IOMEM):
            self.data["texts"][IOMEM] = _without(text, inside_bars(text).get(bdf, ()))
        for kept in self.data.get("hidden", {}).values():
            if IOMEM in kept:
                kept[IOMEM] = _without(kept[IOMEM], [OWN_REGION])


def _without(text: str, names: Any) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.partition(" : ")[2].strip() not in names)
