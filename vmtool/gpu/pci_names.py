"""Names of PCI devices, as a person knows them: from pci.ids where it is installed, else from udev's database."""

from __future__ import annotations

import re

from vmtool.gpu.pci import PciDevice
from vmtool.machine import Reader

# Debian and Ubuntu; Red Hat, SUSE and openEuler; older ones.
FILES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids")

VENDOR = re.compile(r"\n[0-9a-f]{4}  ")


class PciNames:
    """Looks names up in a pci.ids text, without parsing its megabyte as a whole.

    The form is a line "VVVV  vendor" with lines "\\tDDDD  device" below it (pci.ids(5)).
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.text = next((text for path in FILES if (text := reader.text(path))), "")

    def name(self, device: PciDevice) -> str:
        """Such as "GH100 [H100 SXM5 80GB]"; empty when nobody knows it."""
        return self._from_file(device) or self._from_udev(device)

    def _from_file(self, device: PciDevice) -> str:
        start = self.text.find(f"\n{device.vendor:04x}  ")
        if start < 0:
            return ""
        next_vendor = VENDOR.search(self.text, start + 1)
        found = self.text.find(f"\n\t{device.device:04x}  ", start, next_vendor.start() + 1 if next_vendor else None)
        if found < 0:
            return ""
        return self.text[found + 8:self.text.find("\n", found + 2)].strip()

    def _from_udev(self, device: PciDevice) -> str:
        lines = (self.reader.text(f"/run/udev/data/+pci:{device.bdf}") or "").splitlines()
        prefix = "E:ID_MODEL_FROM_DATABASE="
        return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), "")
