"""PCI devices, their names and who stands on them, from recorded hosts and crafted ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.fakes.threads import exited_leader
from vmtool.gpu.device_users import read_consoles, read_holders, read_nodes
from vmtool.gpu.host_critical import read_host_critical
from vmtool.gpu.pci import DEVICES, PciDevice, read_details, read_device, read_pci
from vmtool.gpu.pci_names import PciNames
from vmtool.gpu.vfio_driver import choose_driver, is_vfio
from vmtool.gpu.vfio_facts import read_vfio

H100 = "0000:18:00.0"
IDS = """\
# a comment
0010  Allied Telesis, Inc
10de  NVIDIA Corporation
\t0020  NV4 [Riva TNT]
\t\t1043 0200  V3400 TNT
\t2330  GH100 [H100 SXM5 80GB]
1af4  Red Hat, Inc.
\t2331  not NVIDIA's
"""


def test_a_device_of_a_recorded_host() -> None:
    host = Recorded.load("gpu-hgx-h100")
    device, details = read_device(host, H100), read_details(host, [H100])[H100]
    assert device == PciDevice(H100, 0x10DE, 0x2330, 0x030200, "10de:16c1",
                               "pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00", "nvidia", 60)
    assert (details.numa_node, details.reset_methods, details.link, details.module) == (
        0, ("flr", "bus"), "32.0 GT/s PCIe x16", "nvidia")
    assert (details.vfs, details.total_vfs, details.override, details.boot_vga) == (0, 16, "", False)


@pytest.mark.parametrize("host, count", [("gpu-hgx-h100", 25), ("gpu-grace", 4), ("gpu-desktop", 8),
                                         ("gpu-kunpeng-a100", 5)])
def test_every_device_is_read(host: str, count: int) -> None:
    assert len(read_pci(Recorded.load(host))) == count


def test_a_device_without_a_group_and_one_that_vanishes_are_lived_with() -> None:
    host = Recorded.load("gpu-kunpeng-a100")
    device = read_device(host, "0000:81:00.0")
    assert device
    assert (device.group, device.driver) == (None, "")
    del host.data["texts"][f"{DEVICES}/0000:81:00.0/class"]
    assert read_device(host, "0000:81:00.0") is None
    assert len(read_pci(host)) == 4


@pytest.mark.parametrize("text, expected", [("(null)\n", ""), ("\n", ""), ("vfio-pci\n", "vfio-pci")])
def test_no_override_has_two_spellings(text: str, expected: str) -> None:
    host = Recorded.load("gpu-hgx-h100", texts={f"{DEVICES}/{H100}/driver_override": text})
    assert read_details(host, [H100])[H100].override == expected


def named(vendor: int, device: int, **tables: Any) -> str:
    host = Recorded(tables)
    return PciNames(host).name(PciDevice(H100, vendor, device, 0x030200, "", "", "", None))


@pytest.mark.parametrize("vendor, device, name", [
    (0x10DE, 0x2330, "GH100 [H100 SXM5 80GB]"), (0x10DE, 0x0020, "NV4 [Riva TNT]"), (0x10DE, 0x2331, ""),
    (0x10DE, 0x0200, ""), (0x1AF4, 0x2331, "not NVIDIA's"), (0x0010, 0x0020, ""), (0xFFFF, 0x2330, ""),
])
def test_names_come_from_pci_ids(vendor: int, device: int, name: str) -> None:
    assert named(vendor, device, texts={"/usr/share/misc/pci.ids": IDS}) == name


def test_names_come_from_udev_first() -> None:
    known = {f"{DEVICES}/{H100}": {"ID_MODEL_FROM_DATABASE": "GH100 [H100 SXM5]", "SUBSYSTEM": "pci"}}
    texts = {"/usr/share/misc/pci.ids": IDS}
    assert named(0x10DE, 0x2330, texts=texts, udev=known) == "GH100 [H100 SXM5]"
    unknown = {f"{DEVICES}/{H100}": {"SUBSYSTEM": "pci"}}
    assert named(0x10DE, 0x2330, texts=texts, udev=unknown) == "GH100 [H100 SXM5 80GB]"


def test_libudev_is_not_asked_about_a_device_whose_lock_is_held() -> None:
    class Blocking(Recorded):
        def udev(self, path: str, deadline: float = 2.0) -> Mapping[str, str]:
            raise AssertionError("this would wait for the device")

    device = PciDevice(H100, 0x10DE, 0x2330, 0x030200, "", "", "", None)
    texts = {f"/run/udev/data/+pci:{H100}": "I:7\nE:ID_MODEL_FROM_DATABASE=GH100\n"}
    assert PciNames(Blocking({"texts": texts})).name(device, locked=True) == "GH100", "the file takes no lock"
    texts["/usr/share/misc/pci.ids"] = IDS
    assert PciNames(Blocking({"texts": texts})).name(device, locked=True) == "GH100 [H100 SXM5 80GB]"


def test_names_come_from_udev_where_there_is_no_pci_ids() -> None:
    text = "E:ID_VENDOR_FROM_DATABASE=NVIDIA\nE:ID_MODEL_FROM_DATABASE=GH100 [H100 SXM5 80GB]\n"
    assert named(0x10DE, 0x2330, texts={f"/run/udev/data/+pci:{H100}": text}) == "GH100 [H100 SXM5 80GB]"
    assert named(0x10DE, 0x2330) == ""


def test_holders_have_a_name_a_unit_and_what_they_hold() -> None:
    found = {holder.pid: holder for holder in read_holders(Recorded.load("gpu-hgx-h100"))}
    assert found[4242].command == "python3"
    assert found[4242].nodes == ("/dev/nvidia-uvm", "/dev/nvidia2", "/dev/nvidiactl")
    assert (found[1180].unit, found[4242].unit) == ("nvidia-persistenced.service", "")


@pytest.mark.parametrize("cgroup, unit", [
    ("0::/system.slice/nvidia-persistenced.service", "nvidia-persistenced.service"),
    ("0::/system.slice/system-a.slice/a@1.service/worker/b.service", "a@1.service"),
    ("4:cpu:/x.service\n1:name=systemd:/system.slice/dcgm.service", "dcgm.service"),
    ("0::/lxc.payload.ct1/system.slice/nvidia-persistenced.service", ""),
    ("0::/system.slice/docker-0a1b.scope/system.slice/nvidia-persistenced.service", ""),
    ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/dcgm.service", ""),
    ("0::/../system.slice/dcgm.service", ""), ("0::/system.slice/a.slice", ""), ("0::/", ""), ("", "")])
def test_a_unit_is_one_that_this_hosts_systemd_stops(cgroup: str, unit: str) -> None:
    host = Recorded({"names": {"/proc": ["7"], "/proc/7/fd": ["3"]}, "links": {"/proc/7/fd/3": "/dev/nvidia0"},
                     "texts": {"/proc/7/cgroup": f"{cgroup}\n"}})
    assert [holder.unit for holder in read_holders(host)] == [unit]


def test_a_mapping_is_held_when_the_descriptor_is_closed() -> None:
    host = Recorded({"names": {"/proc": ["7", "self"]}, "texts": {
        "/proc/7/comm": "x\n", "/proc/7/maps": "7f00-7f01 rw-s 0 00:06 5                    /dev/nvidia0\n"
                                               "7f02-7f03 r-xp 0 08:01 9 /usr/lib/libdev.so\n"
                                               "7f04-7f05 rw-p 0 00:00 0\n"}})
    [holder] = read_holders(host)
    assert holder.nodes == ("/dev/nvidia0",)


def test_a_process_whose_leader_has_exited_holds_what_its_threads_hold() -> None:
    host = Recorded({"names": {"/proc": ["7"], "/proc/7/task": ["7", "8", "9"]}, "texts": {
        **exited_leader(7), "/proc/7/comm": "qemu\n", "/proc/7/task/9/maps": "1-2 rw-s 0 00:06 5 /dev/nvidia0\n"},
        "links": {"/proc/7/task/9/fd/3": "/dev/vfio/60"}})
    [holder] = read_holders(host)
    assert (holder.pid, holder.command, holder.nodes) == (7, "qemu", ("/dev/nvidia0", "/dev/vfio/60"))


def test_nodes_are_found_through_the_classes_and_nvidias_own_numbers() -> None:
    groups = {f"0000:01:00.{number}": 1 for number in range(4)}
    nodes = read_nodes(Recorded.load("gpu-desktop"), groups)
    assert nodes["0000:01:00.0"] >= {"/dev/dri/card0", "/dev/dri/renderD128", "/dev/vfio/1"}
    assert "/dev/snd/controlC1" in nodes["0000:01:00.1"]
    assert "/dev/nvidia2" in read_nodes(Recorded.load("gpu-hgx-h100"), {"0000:3a:00.0": 62})["0000:3a:00.0"]


def test_a_console_on_a_pci_frame_buffer() -> None:
    [console] = read_consoles(Recorded.load("gpu-desktop"))
    assert (console.bdf, console.path) == ("0000:01:00.0", "/sys/class/vtconsole/vtcon1/bind")
    assert read_consoles(Recorded.load("gpu-hgx-h100")) == ()


def test_the_host_stands_on_its_disk_and_its_default_route() -> None:
    found = {anchor.bdf: anchor.why for anchor in read_host_critical(Recorded.load("gpu-hgx-h100"))}
    assert found["0000:04:00.0"] == "its disk nvme0n1p2 is mounted on /"
    assert found["0000:16:00.0"] == "the default route goes through its ens16np0"


def test_the_way_down_goes_through_bridges_bonds_and_device_mapper() -> None:
    disk = "../../devices/pci0000:00/0000:00:1d.0/0000:03:00.0/nvme/nvme0/nvme0n1"
    host = Recorded({
        "texts": {"/proc/self/mountinfo": "29 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n",
                  "/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
                                     "br0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\n"},
        "links": {"/sys/dev/block/253:0": "../../devices/virtual/block/dm-0",
                  "/sys/class/block/dm-0": "../../devices/virtual/block/dm-0",
                  "/sys/class/block/nvme0n1p3": f"{disk}/nvme0n1p3",
                  "/sys/class/net/eno1": "../../devices/pci0000:00/0000:00:1f.6/net/eno1"},
        "names": {"/sys/class/block/dm-0/slaves": ["nvme0n1p3"], "/sys/class/net/br0": ["lower_bond0", "mtu"],
                  "/sys/class/net/bond0": ["lower_eno1"]}})
    assert {anchor.bdf for anchor in read_host_critical(host)} == {"0000:00:1d.0", "0000:03:00.0", "0000:00:1f.6"}


def test_vfio_of_a_kernel_with_variants() -> None:
    host = Recorded.load("gpu-grace")
    vfio = read_vfio(host)
    assert vfio.available
    assert len(vfio.aliases) == 4
    device, nic = read_device(host, "0009:01:00.0"), read_device(host, "0002:01:00.0")
    assert device
    assert nic
    assert choose_driver(vfio, device).driver == "nvgrace_gpu_vfio_pci"
    assert (choose_driver(vfio, nic).driver, choose_driver(vfio, nic).module) == ("mlx5_vfio_pci", "mlx5_vfio_pci")


@pytest.mark.parametrize("drivers, driver", [
    (["nvgrace-gpu-vfio-pci"], "nvgrace-gpu-vfio-pci"), (["nvgrace_gpu_vfio_pci"], "nvgrace_gpu_vfio_pci"),
])
def test_a_loaded_driver_tells_how_it_is_spelled(drivers: list[str], driver: str) -> None:
    host = Recorded.load("gpu-grace", names={"/sys/bus/pci/drivers": drivers})
    device = read_device(host, "0009:01:00.0")
    assert device
    assert choose_driver(read_vfio(host), device).driver == driver
    assert is_vfio(driver)


def test_vfio_of_a_kernel_without_it() -> None:
    vfio = read_vfio(Recorded({}))
    assert (vfio.available, vfio.aliases, vfio.idle_d3, vfio.groups) == (False, (), None, 0)
