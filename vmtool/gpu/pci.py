"""PCI devices as /sys/bus/pci shows them (Documentation/ABI/testing/sysfs-bus-pci), read again at each call.

Plain files and not udev's database: libudev caches an attribute for the life of its device object, and what a bind
must know is the driver link of this very moment.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping

from vmtool.frozen import dataclass
from vmtool.machine import DeviceReader, Reader

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
# Reading these takes the device's lock (drivers/pci/pci-sysfs.c, drivers/pci/iov.c).
LOCKED = ("driver_override", "sriov_numvfs")
VFIO_NAME = re.compile(r"vfio[0-9]+")
BDF = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-1][0-9a-f]\.[0-7]")


@dataclass(frozen=True)
class PciDevice:
    """What a device is and who drives it; cheap enough to read of every device.

    Args:
        bdf: full address, DOMAIN:BUS:DEVICE.FUNCTION; the domain is not always 0000.
        class_code: class, subclass and programming interface, 24 bits.
        subsystem: "vendor:device" in hexadecimal.
        driver: empty when there is none.
        group: IOMMU group; None without an IOMMU, and on arm64 before the device's first probe.
    """

    bdf: str
    vendor: int
    device: int
    class_code: int
    subsystem: str
    modalias: str
    driver: str
    group: int | None

    @property
    def base_class(self) -> int:
        """Class and subclass, such as 0x0302."""
        return self.class_code >> 8

    @property
    def card(self) -> str:
        """The address without the function: the functions of one card share it."""
        return self.bdf.rpartition(".")[0]


@dataclass(frozen=True)
class PciDetails:
    """The rest of it; read of the devices that matter.

    Args:
        busy: the device's lock is held: it is being bound or unbound right now, or hangs in that; then `override` and
            `vfs` are not known.
        override: driver_override, empty when none is set.
        numa_node: None when the firmware does not say.
        reset_methods: such as flr, pm, bus; empty when it cannot be reset.
        link, link_max: speed and width, such as "16.0 GT/s PCIe x16"; empty of devices without a link.
        power_state: D0, D3hot, D3cold, or unknown.
        power_control: "on" (kept awake) or "auto".
        d3cold_allowed: "0" or "1"; None when the device has no such attribute.
        vfs, total_vfs: virtual functions that exist, and that could.
        physfn: address of the physical function when this is a virtual one.
        boot_vga: whether the firmware's and the boot's text is on it.
        vfio_node: name below /dev/vfio/devices, such as vfio0; None without a vfio driver or the kernel option.
        module: the module of the present driver, which may be named otherwise; empty when it is built in.
    """

    revision: str
    busy: bool
    override: str
    numa_node: int | None
    reset_methods: tuple[str, ...]
    link: str
    link_max: str
    power_state: str
    power_control: str
    d3cold_allowed: str | None
    vfs: int
    total_vfs: int
    physfn: str | None
    boot_vga: bool
    vfio_node: str | None
    module: str


def read_pci(reader: Reader) -> tuple[PciDevice, ...]:
    """Every PCI device; one that vanishes meanwhile is left out."""
    found = (read_device(reader, bdf) for bdf in reader.names(DEVICES))
    return tuple(device for device in found if device)


def read_device(reader: Reader, bdf: str) -> PciDevice | None:
    """One device; None when it is not there.

    Not from its uevent file, which has all of this in one place: that takes the device's lock (uevent_show in
    drivers/base/core.c of 6.1.176), so with a driver that hangs in its unbind the reader would hang too.
    """
    def text(name: str) -> str:
        return (reader.text(f"{DEVICES}/{bdf}/{name}") or "").strip()

    try:
        vendor, device, class_code = (int(text(name), 16) for name in ("vendor", "device", "class"))
    except ValueError:
        return None
    group = _last(reader.link(f"{DEVICES}/{bdf}/iommu_group"))
    subsystem = f"{text('subsystem_vendor')}:{text('subsystem_device')}".replace("0x", "")
    return PciDevice(bdf, vendor, device, class_code, subsystem, text("modalias"), read_driver(reader, bdf),
                     int(group) if group.isdecimal() else None)


def read_driver(reader: Reader, bdf: str) -> str:
    """The driver that the device is bound to now; empty when there is none."""
    return _last(reader.link(f"{DEVICES}/{bdf}/driver"))


def read_details(reader: DeviceReader, bdfs: Iterable[str], hung: Container[str] = ()) -> dict[str, PciDetails]:
    """Everything else about these devices.

    Args:
        hung: devices that are known to hang: each attempt would leave one more process behind.
    """
    bdfs = list(bdfs)
    files = tuple(f"{DEVICES}/{bdf}/{name}" for bdf in bdfs if bdf not in hung for name in LOCKED)
    answers = reader.guarded(files) if files else {}
    return {bdf: _details(reader, bdf, answers) for bdf in bdfs}


def _details(reader: Reader, bdf: str, answers: Mapping[str, str | None]) -> PciDetails:
    path = f"{DEVICES}/{bdf}"

    def text(name: str) -> str:
        return (reader.text(f"{path}/{name}") or "").strip()

    def link(kind: str) -> str:
        speed, width = text(f"{kind}_link_speed"), text(f"{kind}_link_width")
        return f"{speed} x{width}" if "GT/s" in speed and width not in ("", "0") else ""

    override, vfs = ((answers.get(f"{path}/{name}") or "").strip() for name in LOCKED)
    numa = text("numa_node")
    return PciDetails(
        revision=text("revision").removeprefix("0x"),
        busy=any(f"{path}/{name}" not in answers for name in LOCKED),
        override="" if override == "(null)" else override,
        numa_node=int(numa) if numa.isdecimal() else None,
        reset_methods=tuple(text("reset_method").split()),
        link=link("current"),
        link_max=link("max"),
        power_state=text("power_state") or "unknown",
        power_control=text("power/control"),
        d3cold_allowed=text("d3cold_allowed") or None,
        vfs=_number(vfs),
        total_vfs=_number(text("sriov_totalvfs")),
        physfn=_last(reader.link(f"{path}/physfn")) or None,
        boot_vga=text("boot_vga") == "1",
        vfio_node=next(iter(vfio_names(reader, path)), None),
        module=_last(reader.link(f"{path}/driver/module")),
    )


def vfio_names(reader: Reader, directory: str) -> tuple[str, ...]:
    """What a device of VFIO is called below /dev/vfio/devices, such as vfio0; nothing without the kernel option."""
    return tuple(name for name in reader.names(f"{directory}/vfio-dev") if VFIO_NAME.fullmatch(name))


def _last(link: str | None) -> str:
    return (link or "").rstrip("/").rpartition("/")[2]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
