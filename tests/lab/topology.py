"""Which devices a lab machine has and how they hang together: data, and the machines that the tests use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

NVIDIA = 0x10DE


@dataclass(frozen=True)
class Device:
    """A device that QEMU emulates: its model and options, as after `-device`."""

    model: str
    options: tuple[str, ...] = ()

    def argument(self) -> str:
        """The text after `-device`."""
        return ",".join([self.model, *self.options])


@dataclass(frozen=True)
class Fake:
    """A device whose registers we serve ourselves, over vfio-user: any vendor, device and class.

    Args:
        class_code: 24 bits, such as 0x030200 for a 3D controller.
        registers: "gpu" has the BARs and the chip id that NVIDIA's driver asks for before it binds; "nvswitch" has the
            BARs, and a chip id that makes the driver give up at once (a real one waits 10 s for its firmware).
        flr: whether it offers a function-level reset.
    """

    vendor: int
    device: int
    class_code: int
    options: tuple[str, ...] = ()
    registers: Literal["gpu", "nvswitch", "none"] = "none"
    flr: bool = True


@dataclass(frozen=True)
class Topology:
    """A machine.

    Args:
        kernel_args: added to the kernel's command line.
        intremap: whether the IOMMU remaps interrupts.
        memory: MiB.
        cpu: QEMU's model and features; the default one when empty.
    """

    name: str
    devices: tuple[Device | Fake, ...]
    arch: str = "x86_64"
    intremap: bool = True
    kernel_args: tuple[str, ...] = ()
    memory: int = 768
    cpu: str = field(default="", repr=False)           # a snapshot's key has QEMU's arguments, and so this as well
    fakes: tuple[Fake, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fakes", tuple(each for each in self.devices if isinstance(each, Fake)))


def port(name: str, *options: str, bus: str = "pcie.0") -> Device:
    """A PCIe root port; what sits behind it says `bus=NAME`."""
    number = int("".join(each for each in name if each.isdigit()) or 0)
    return Device("pcie-root-port", (f"id={name}", f"bus={bus}", f"chassis={number + 1}", *options))


def h100(bus: str, *options: str) -> Fake:
    """A GH100 [H100 SXM5 80GB], to which NVIDIA's own kernel driver binds."""
    return Fake(NVIDIA, 0x2330, 0x030200, (f"bus={bus}", *options), registers="gpu")


def nvswitch(bus: str) -> Fake:
    """An NVSwitch of the Hopper generation: class 0680, which is no bridge to the kernel."""
    return Fake(NVIDIA, 0x22A3, 0x068000, (f"bus={bus}",), registers="nvswitch")


# The modules' own names: kmod compares them with underscores.
NO_NVIDIA = ("modprobe.blacklist=nvidia_current_open,nvidia_current_open_drm,nvidia_current_open_modeset,"
             "nvidia_current_open_uvm",)
GPU_AT_5 = Device("ati-vga", ("bus=pcie.0", "addr=5"))
BRIDGE = (port("port0", "addr=4"), Device("pcie-pci-bridge", ("id=bridge", "bus=port0")))

# One display device alone in its group, which cannot be reset: no FLR, no PM reset, no bus of its own.
SOLE = Topology("sole", (GPU_AT_5,))
# The same with interrupt remapping off: it binds to vfio-pci, and VFIO_SET_IOMMU answers EPERM.
NO_INTREMAP = Topology("no-intremap", (GPU_AT_5,), intremap=False)
# A GPU and a NIC with its driver behind one conventional bridge: one group, not viable while e1000 is bound.
SHARED_BUSY = Topology("shared-busy", (*BRIDGE, Device("ati-vga", ("bus=bridge", "addr=1")),
                                       Device("e1000", ("bus=bridge", "addr=2"))))
# A GPU and a device that no driver claims behind one bridge: one group, viable once the GPU is bound.
SHARED_FREE = Topology("shared-free", (*BRIDGE, Device("ati-vga", ("bus=bridge", "addr=1")),
                                       Device("pci-testdev", ("bus=bridge", "addr=2"))))
# Two functions of one slot: a NIC with its driver at .0, a display device at .1.
MULTIFUNCTION = Topology("multifunction", (port("port0", "addr=4"),
                                           Device("e1000e", ("bus=port0", "addr=0.0", "multifunction=on")),
                                           Device("ati-vga", ("bus=port0", "addr=0.1"))))
# A root port without access control services, which QEMU's ioh3420 lacks: the port is in the group of its GPU.
NO_ACS = Topology("no-acs", (Device("ioh3420", ("id=port0", "bus=pcie.0", "chassis=1", "addr=4")),
                             Device("ati-vga", ("bus=port0",))))
# Each kind of reset: FLR and by bus (an H100), by bus alone (one that lacks FLR), none (ati-vga on the root bus), PM
# (e1000e on the root bus). No nvme: QEMU 11.1 crashes when it saves a machine that has one.
RESETS = Topology("resets", (port("port0", "addr=6"), port("port1", "addr=7"), GPU_AT_5, h100("port0"),
                             Fake(NVIDIA, 0x2330, 0x030200, ("bus=port1",), "gpu", flr=False),
                             Device("e1000e", ("bus=pcie.0", "addr=8"))), kernel_args=NO_NVIDIA)
# Two H100s, each behind a port, with NVIDIA's real kernel driver bound to both at boot.
NVIDIA_PAIR = Topology("nvidia-pair", (port("port0", "addr=4"), port("port1", "addr=5"), h100("port0"), h100("port1")))
# The same with room for a guest: 1 GiB for it, and 2 that vmtool wants to see on every host. QEMU's default processor
# has SVM without nested paging, and KVM's guests fault on it as they boot; without five-level tables they boot sooner.
LAUNCH_HOST = Topology("launch-host", NVIDIA_PAIR.devices, memory=4096, cpu="max,la57=off")
# The same hardware where the NVIDIA driver does not load.
H100_PAIR = Topology("h100-pair", NVIDIA_PAIR.devices, kernel_args=NO_NVIDIA)
# One card with the four functions of an NVIDIA card: 3D, audio, xHCI, UCSI; one group, since they lack ACS.
CARD = Topology("card", (port("port0", "addr=4"),
                         h100("port0", "addr=0.0", "multifunction=on"),
                         Fake(NVIDIA, 0x22BA, 0x040300, ("bus=port0", "addr=0.1")),
                         Fake(NVIDIA, 0x1AD8, 0x0C0330, ("bus=port0", "addr=0.2")),
                         Fake(NVIDIA, 0x1AD9, 0x0C8000, ("bus=port0", "addr=0.3"))), kernel_args=NO_NVIDIA)
# Eight H100s and four NVSwitches, as on an HGX board, each behind a port of its own; the NVIDIA driver is bound.
HGX = Topology("hgx", (*(port(f"port{n}", f"addr={4 + n // 8}.{n % 8}", *(["multifunction=on"] if n % 8 == 0 else []))
                         for n in range(12)),
                       *(h100(f"port{n}") for n in range(8)), *(nvswitch(f"port{n}") for n in range(8, 12))),
               memory=1024)
# arm64 with an SMMUv3: a display device alone in its group.
ARM64 = Topology("arm64", (Device("ati-vga", ("bus=pcie.0", "addr=5")),), arch="aarch64")
ALL = (SOLE, NO_INTREMAP, SHARED_BUSY, SHARED_FREE, MULTIFUNCTION, NO_ACS, RESETS, NVIDIA_PAIR, H100_PAIR, CARD, HGX,
       ARM64)
