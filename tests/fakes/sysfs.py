"""A kernel's PCI bus that reacts: unbind removes the driver, a probe honours driver_override, writes fail and hang.

It is a `vmtool.machine.Host`, so the real planners and the real `apply` work on it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.framebuffers import Framebuffers
from tests.fakes.host import FakeHost
from tests.fakes.recorded import Recorded
from vmtool.gpu.framebuffers import PLATFORM
from vmtool.gpu.pci import BDF, DEVICES, DRIVERS
from vmtool.gpu.sysfs_writes import BOOT_ID
from vmtool.machine import DeviceWrite, Output, Pairs, RunningWrites, WriteFailure

BOOT = "5f0f6a0e-9d41-4a53-8d0c-6f7d1f1f0a11"
MODULES = {"vfio-pci": "vfio-pci", "nvgrace_gpu_vfio_pci": "nvgrace_gpu_vfio_pci", "nvidia": "nvidia"}


@dataclass
class Faults:
    """What a device does wrong.

    Args:
        hangs_on: files on whose write it hangs for good, such as unbind.
        vanishes_on: the write at which it goes away.
        refused_by: driver -> errno with which that driver's probe fails.
        errors: file -> errno that its next write answers.
        opens: what the kernel says to a machine that opens it, such as "domain EPERM".
    """

    hangs_on: tuple[str, ...] = ()
    vanishes_on: str = ""
    refused_by: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    opens: str = ""


class FakeKernel(Framebuffers, Recorded, FakeHost):
    """A recorded host whose devices react. `written` lists what was written, `ran` the programs that were run."""

    def __init__(self, host: Recorded, directory: Path) -> None:
        FakeHost.__init__(self)
        Recorded.__init__(self, host.data)
        self.data["texts"][BOOT_ID] = f"{BOOT}\n"
        self.directory = directory
        self.faults: dict[str, Faults] = {}
        self.locked: set[str] = set()
        self.written: list[tuple[str, str]] = []
        self.ran: list[tuple[str, ...]] = []
        # As the recording shows them: where a driver's link leads, and which module a driver is of.
        links = self.data["links"]
        self.modules = {self.driver(bdf): link for bdf in self.names(DEVICES)
                        if (link := links.get(f"{DEVICES}/{bdf}/driver/module"))}
        # A driver that had a device at the start is the one that matches it.
        self.native = {bdf: self.driver(bdf) for bdf in self.names(DEVICES)}
        # A device that never had a driver has its IOMMU group from its first probe on (arm64, device tree).
        self.late_groups: dict[str, int] = {}
        self.platform = self.platform_devices()
        self.removed: dict[str, dict[str, dict[str, str]]] = {}
        # Devices that get a node of their own by a bind -> when it is there, in seconds after the bind.
        self.own_nodes: dict[str, float] = {}
        self.nodes: dict[str, float] = {}

    def driver(self, bdf: str) -> str:
        return (self.data["links"].get(f"{DEVICES}/{bdf}/driver") or "").rpartition("/")[2]

    def drivers(self) -> dict[str, str]:
        """Every device's driver."""
        return {bdf: self.driver(bdf) for bdf in self.names(DEVICES)}

    def settings(self) -> dict[str, str]:
        """Everything of the devices that can be written."""
        kinds = ("driver_override", "power/control", "d3cold_allowed")
        return {path: text for path, text in self.data["texts"].items() if path.endswith(kinds)}

    def viable(self, group: int) -> bool:
        """Whether every endpoint of the group has no driver, or one that leaves its DMA alone (driver_managed_dma)."""
        endpoints = [bdf for bdf in self.members(group)
                     if not (self.text(f"{DEVICES}/{bdf}/class") or "").startswith("0x0604")]
        return all(self.driver(bdf) in ("", "pcieport", "pci-stub") or "vfio" in self.driver(bdf) for bdf in endpoints)

    def members(self, group: int) -> list[str]:
        return [bdf for bdf in self.names(DEVICES)
                if (self.link(f"{DEVICES}/{bdf}/iommu_group") or "").endswith(f"/{group}")]

    def open_vfio(self, nodes: tuple[str, ...], deadline: float = 2.0) -> dict[str, str]:
        """As drivers/vfio does: a group opens once, is viable or not, and its domain may be refused."""
        return {node: self._opened(node) for node in nodes}

    def _opened(self, node: str) -> str:
        name = node.rpartition("/")[2]
        bdfs = self.members(int(name)) if name.isdecimal() else [
            bdf for bdf in self.own_nodes if name in self.names(f"{DEVICES}/{bdf}/vfio-dev")]
        refused = next((self.faults[bdf].opens for bdf in bdfs if bdf in self.faults and self.faults[bdf].opens), "")
        regions = self.text(f"/sys/kernel/iommu_groups/{name}/reserved_regions") or ""
        if self.busy((node,)).get(node, True):
            return "open EBUSY"
        if name.isdecimal() and not self.viable(int(name)):
            return "viable"
        return refused or ("domain EPERM" if " direct\n" in regions else "")

    # The reader's side: what lies in the test's own directory is real.

    def text(self, path: str) -> str | None:
        if path.startswith(str(self.directory)):
            return Path(path).read_text() if Path(path).is_file() else None
        return super().text(path)

    def guarded(self, paths: tuple[str, ...], deadline: float = 2.0) -> dict[str, str | None]:
        """The lock of a device that hangs is never let go, so what takes it does not answer."""
        return {path: self.text(path) for path in paths if not any(bdf in path for bdf in self.locked)}

    def exists(self, path: str) -> bool:
        group = path.removeprefix("/dev/vfio/")
        if group != path and group.isdecimal():
            return any("vfio" in self.driver(bdf) for bdf in self.members(int(group)))
        if path in self.nodes:
            return self.clock >= self.nodes[path]
        return Path(path).exists() if path.startswith(str(self.directory)) else super().exists(path)

    def names(self, path: str) -> tuple[str, ...]:
        if path.startswith(str(self.directory)):
            return tuple(sorted(os.listdir(path))) if Path(path).is_dir() else ()
        found = super().names(path)
        # The recorder keeps a directory's names beside what lies in it.
        return tuple(name for name in found if path != DEVICES or super(FakeKernel, self).text(f"{path}/{name}/class"))

    # The writer's side.

    def start_writes(self, writes: Sequence[DeviceWrite]) -> RunningWrites:
        return FakeWrites(self, writes)

    def ended(self, running: Sequence[RunningWrites], seconds: float) -> list[RunningWrites]:
        found = [each for each in running if not (isinstance(each, FakeWrites) and each.hangs)]
        self.clock += 0.0 if found else seconds
        return found

    def device_write(self, path: str, text: str) -> int | None:
        """A write: 0, an errno, or None when it never returns."""
        found = BDF.search(path) or BDF.search(text)
        if not found and self.platform_write(path, text) is not None:
            self.written.append((path, text))
            return self.answer
        if not found:
            self.data["texts"][path] = f"{text}\n"
            self.written.append((path, text))
            return 0
        bdf, name = found[0], path.rpartition("/")[2]
        faults = self.faults.get(bdf, Faults())
        if bdf in self.locked or name in faults.hangs_on:
            self.locked.add(bdf)
            return None
        if faults.vanishes_on == name:
            self._vanish(bdf)
        if bdf not in self.names(DEVICES):
            return errno.ENOENT if DEVICES in path else errno.ENODEV
        if name in faults.errors:
            return faults.errors.pop(name)
        self.written.append((path, text))
        return self._react(bdf, path, name, text)

    def _react(self, bdf: str, path: str, name: str, text: str) -> int:
        if name == "unbind":
            if not self.driver(bdf):
                return errno.ENOENT
            if "vfio" in self.driver(bdf):
                self._control(bdf, "on")
            del self.data["links"][f"{DEVICES}/{bdf}/driver"]
            self.data["links"].pop(f"{DEVICES}/{bdf}/driver/module", None)
        elif name in ("drivers_probe", "remove"):
            (self._probe if name == "drivers_probe" else self.remove_device)(bdf)
        elif name == "bind":
            driver = path.split("/")[-2]
            if driver not in self.names(DRIVERS):
                return errno.ENOENT
            if self.driver(bdf):
                return errno.EBUSY
            return self._attach(bdf, driver) if self._matches(bdf, driver) else errno.ENODEV
        else:
            old = self.data["texts"].get(path)
            if old is None:
                return errno.ENOENT
            self.data["texts"][path] = "(null)\n" if name == "driver_override" and not text else f"{text}\n"
            if name == "control" and text == "on":
                self.data["texts"][f"{DEVICES}/{bdf}/power_state"] = "D0\n"
        return 0

    def _matches(self, bdf: str, driver: str) -> bool:
        override = (self.text(f"{DEVICES}/{bdf}/driver_override") or "").strip()
        return driver == (override if override not in ("", "(null)") else self.native.get(bdf))

    def _probe(self, bdf: str) -> None:
        """Does nothing to a bound device, and says nothing when the driver refuses (drivers/base/dd.c)."""
        if bdf in self.late_groups:
            self.data["links"][f"{DEVICES}/{bdf}/iommu_group"] = f"../../kernel/iommu_groups/{self.late_groups[bdf]}"
        for driver in self.names(DRIVERS):
            if not self.driver(bdf) and self._matches(bdf, driver):
                self._attach(bdf, driver)

    def _attach(self, bdf: str, driver: str) -> int:
        faults = self.faults.get(bdf, Faults())
        if driver in faults.refused_by:
            return faults.refused_by[driver]
        asleep = (self.text(f"{DEVICES}/{bdf}/power_state") or "").strip() == "D3cold"
        ungrouped = "vfio" in driver and not self.link(f"{DEVICES}/{bdf}/iommu_group")
        if asleep or ungrouped:
            return errno.EINVAL
        self.data["links"][f"{DEVICES}/{bdf}/driver"] = f"../../../bus/pci/drivers/{driver}"
        if driver in self.modules:
            self.data["links"][f"{DEVICES}/{bdf}/driver/module"] = self.modules[driver]
        if "vfio" in driver:
            self._control(bdf, "auto")
            self._add_node(bdf)
            self.free_display(bdf)
        return 0

    def _add_node(self, bdf: str) -> None:
        """Its number is in /sys at once; the node comes when it comes."""
        if bdf in self.own_nodes:
            name = f"vfio{len(self.nodes)}"
            self.data["texts"][f"{DEVICES}/{bdf}/vfio-dev/{name}/dev"] = f"511:{len(self.nodes)}\n"
            self.data["names"][f"{DEVICES}/{bdf}/vfio-dev"] = [name]
            self.nodes[f"/dev/vfio/devices/{name}"] = self.clock + self.own_nodes[bdf]

    def _control(self, bdf: str, value: str) -> None:
        """vfio-pci allows runtime power management when it takes a device, and forbids it when it lets go."""
        if f"{DEVICES}/{bdf}/power/control" in self.data["texts"]:
            self.data["texts"][f"{DEVICES}/{bdf}/power/control"] = f"{value}\n"

    def _vanish(self, bdf: str) -> None:
        for table in ("texts", "links"):
            for path in [path for path in self.data[table] if path.startswith(f"{DEVICES}/{bdf}/")]:
                del self.data[table][path]

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        """modprobe registers a driver; every other program ends well."""
        self.ran.append(tuple(argv))
        if argv[0] == "modprobe":
            known = MODULES.get(argv[1])
            if known is None:
                return Output(1, "", f"modprobe: FATAL: Module {argv[1]} not found")
            self.data["names"].setdefault(DRIVERS, []).append(known)
        return Output(0, "", "")


class FakeWrites:
    """One device's writes, all done at once; one that hangs never ends and cannot be killed."""

    def __init__(self, kernel: FakeKernel, writes: Sequence[DeviceWrite]) -> None:
        self.writes = tuple(writes)
        self.hangs = False
        self.failure: WriteFailure | None = None
        for write in writes:
            if not self._holds(kernel, write):
                continue
            number = kernel.device_write(write.path, write.text)
            if number:
                self.failure = WriteFailure(write, number)
            if number or number is None:
                self.hangs = number is None
                return

    def result(self) -> WriteFailure | None:
        return self.failure

    def kill(self) -> bool:
        return False

    def stuck_at(self) -> list[str]:
        return ["State:\tD (disk sleep)", "[<0>] nv_pci_remove+0x1f/0x40 [nvidia]"]

    def close(self) -> None:
        pass

    @staticmethod
    def _holds(kernel: FakeKernel, write: DeviceWrite) -> bool:
        if not write.directory:
            return True
        if write.directory.startswith(PLATFORM):
            driver = kernel.platform.get(write.directory.rpartition("/")[2])
            return driver is not None and write.driver in ("*", driver)
        bdf = write.directory.rpartition("/")[2]
        return bdf in kernel.names(DEVICES) and write.driver in ("*", kernel.driver(bdf))
