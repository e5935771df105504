"""Names of PCI devices, as a person knows them: from udev's database, else from pci.ids where it is installed."""

from __future__ import annotations

import functools
import re

from vmtool.gpu.pci import DEVICES, PciDevice
from vmtool.machine import Reader

# Debian and Ubuntu; Red Hat, SUSE and openEuler; older ones.
FILES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids")

MODEL = "ID_MODEL_FROM_DATABASE"
VENDOR = re.compile(r"\n[0-9a-f]{4}  ")


class PciNames:
    """Asks udev, and looks up what it does not know in a pci.ids text, without parsing its megabyte as a whole.

    The text's form is a line "VVVV  vendor" with lines "\\tDDDD  device" below it (pci.ids(5)).
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @functools.cached_property
    def text(self) -> str:
        """The megabyte; empty when it is not installed."""
        return next((text for path in FILES if (text := self.reader.text(path))), "")

    def name(self, device: PciDevice, *, locked: bool = False) -> str:
        """Such as "GH100 [H100 SXM5 80GB]"; empty when nobody knows it.

        Args:
            locked: something holds the device's lock, for good perhaps: libudev is not asked, since it would wait.
        """
        reported = {} if locked else self.reader.udev(f"{DEVICES}/{device.bdf}")
        return reported.get(MODEL) or self._from_file(device) or self._from_database(device)

    def _from_file(self, device: PciDevice) -> str:
        start = self.text.find(f"\n{device.vendor:04x}  ")
        if start < 0:
            return ""
        next_vendor = VENDOR.search(self.text, start + 1)
        found = self.text.find(f"\n\t{device.device:04x}  ", start, next_vendor.start() + 1 if next_vendor else None)
        if found < 0:
            return ""
        return self.text[found + 8:self.text.find("\n", found + 2)].strip()

    def _from_database(self, device: PciDevice) -> str:
        """From the file of udev's database, which takes no lock."""
        lines = (self.reader.text(f"/run/udev/data/+pci:{device.bdf}") or "").splitlines()
        prefix = f"E:{MODEL}="
        return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), "")
