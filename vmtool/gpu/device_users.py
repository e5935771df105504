"""Who uses a device: processes that have its node open or mapped, and the text consoles on it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from vmtool.facts.process import shown_at
from vmtool.frozen import dataclass
from vmtool.gpu.framebuffers import Framebuffer
from vmtool.gpu.pci import BDF
from vmtool.machine import DeviceReader, Reader

# Every node that may belong to an accelerator or to another function of its card.
NODES = re.compile(r"/dev/(nvidia|dri/|fb\d|vfio/|kfd|accel/|hl|davinci|hisi_hdc|devmm|snd/(?!timer|seq))")
# The nodes of a driver and not of one device; which NVSwitch a node is of, nothing shows.
SHARED = {"nvidia": ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-modeset", "/dev/nvidia-caps"),
          "nvidia-nvswitch": ("/dev/nvidia-nvswitch",), "amdgpu": ("/dev/kfd",)}
# The cgroup of a service of the host's own systemd (systemd.slice(5)); what is below it is that service's.
UNIT = re.compile(r"system\.slice/(?:[^/]+\.slice/)*([^/]+\.service)(?:/.*)?")
# Class directories whose entries are nodes with a `device` link to their PCI device.
CLASSES = (("/sys/class/drm", "/dev/dri/{}"), ("/sys/class/graphics", "/dev/{}"), ("/sys/class/accel", "/dev/accel/{}"),
           ("/sys/class/vfio-dev", "/dev/vfio/devices/{}"), ("/sys/class/sound", "/dev/snd/{}"))


@dataclass(frozen=True)
class Holder:
    """A process that uses devices.

    Args:
        command: its name, as the kernel has it.
        unit: the service of this host's systemd that it belongs to, such as nvidia-persistenced.service; empty when
            to none.
        nodes: device nodes that it has open or mapped.
    """

    pid: int
    command: str
    unit: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Console:
    """A text console drawn by a device; `path` takes 0 to let go of it and 1 to take it again."""

    bdf: str
    path: str


def read_holders(reader: Reader) -> tuple[Holder, ...]:
    """Every process with a node of `NODES` open or mapped. Only root sees other users' processes."""
    found = []
    for pid in reader.names("/proc"):
        place = shown_at(reader, pid) if pid.isdecimal() else ""
        if place and (nodes := _open(reader, place) | _mapped(reader, place)):
            found.append(Holder(int(pid), (reader.text(f"/proc/{pid}/comm") or "?").strip(), _unit(reader, pid),
                                tuple(sorted(nodes))))
    return tuple(found)


def read_nodes(reader: DeviceReader, groups: Mapping[str, int | None],
               framebuffers: Sequence[Framebuffer] = ()) -> dict[str, frozenset[str]]:
    """The nodes of each device.

    Args:
        groups: address -> IOMMU group; a group's node belongs to all of its devices.
        framebuffers: of the firmware, whose nodes belong to the device that they are on.
    """
    nodes: dict[str, set[str]] = {bdf: set() for bdf in groups}
    files = tuple(path for bdf in groups if reader.exists(path := f"/proc/driver/nvidia/gpus/{bdf}/information"))
    answers = reader.guarded(files) if files else {}
    for bdf, group in groups.items():
        if group is not None:
            nodes[bdf] |= {f"/dev/vfio/{group}", f"/dev/vfio/noiommu-{group}"}
        # NVIDIA's numbers are its own: the minor is known here only.
        text = answers.get(f"/proc/driver/nvidia/gpus/{bdf}/information") or ""
        if minor := re.search(r"Device Minor:\s*(\d+)", text):
            nodes[bdf].add(f"/dev/nvidia{minor[1]}")
    for directory, node in CLASSES:
        for name in reader.names(directory):
            # The entry itself is a link into the device tree: .../0000:01:00.0/drm/card0
            bdf = _owner(reader.link(f"{directory}/{name}") or "", framebuffers)
            if bdf in nodes:
                nodes[bdf].add(node.format(name))
    return {bdf: frozenset(found) for bdf, found in nodes.items()}


def read_consoles(reader: Reader, framebuffers: Sequence[Framebuffer] = ()) -> tuple[Console, ...]:
    """Text consoles on a frame buffer, when that frame buffer is a PCI device's (Documentation/fb/fbcon.rst)."""
    drawn = [bdf for name in reader.names("/sys/class/graphics") if name.startswith("fb")
             and (bdf := _owner(reader.link(f"/sys/class/graphics/{name}") or "", framebuffers))]
    found = []
    for name in reader.names("/sys/class/vtconsole"):
        path = f"/sys/class/vtconsole/{name}"
        bound = (reader.text(f"{path}/bind") or "").strip() == "1"
        if bound and "frame buffer" in (reader.text(f"{path}/name") or ""):
            found += [Console(bdf, f"{path}/bind") for bdf in drawn]
    return tuple(found)


def _owner(way: str, framebuffers: Sequence[Framebuffer]) -> str:
    """The PCI device that something belongs to by its way through the device tree; empty when to none."""
    ancestors = BDF.findall(way)
    return ancestors[-1] if ancestors else next(
        (each.bdf for each in framebuffers if each.device and f"/{each.device}/" in way), "")


def _open(reader: Reader, place: str) -> set[str]:
    links = (reader.link(f"{place}/fd/{number}") for number in reader.names(f"{place}/fd"))
    return {link for link in links if link and NODES.match(link)}


def _mapped(reader: Reader, place: str) -> set[str]:
    """A mapping outlives the descriptor it was made with (proc(5), /proc/PID/maps: the path is the sixth field)."""
    text = reader.text(f"{place}/maps") or ""
    return {match[1] for match in re.finditer(r" (/dev/\S+)$", text, re.MULTILINE) if NODES.match(match[1])}


def _unit(reader: Reader, pid: str) -> str:
    """Below a session's or a container's cgroup there are units of the same names, which this host's systemd has not:
    `systemctl stop` would stop another one."""
    unit = UNIT.fullmatch((reader.text(f"/proc/{pid}/cgroup") or "").strip().rpartition("\n")[2].partition(":/")[2])
    return unit[1] if unit else ""
