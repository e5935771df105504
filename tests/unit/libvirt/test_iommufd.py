"""GPUs of a confidential guest: by iommufd where kernel, QEMU and libvirt have it, else within legacy VFIO's limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.libvirt.cases import GPUS, facts, gpu_facts, text, wish
from vmtool.gpu.check_machine import check_mappings
from vmtool.libvirt.installed import HypervisorFacts, has_iommufd
from vmtool.qemu.claims import vm_claims
from vmtool.qemu.processes import opened_devices
from vmtool.tee.table import tee_of

CONFIG = {"/proc/sys/kernel/osrelease": "6.12.0\n", "/boot/config-6.12.0": "CONFIG_VFIO_DEVICE_CDEV=y\n"}
LEGACY = {**CONFIG, "/boot/config-6.12.0": "# CONFIG_VFIO_DEVICE_CDEV is not set\n"}
RUN = {"uname -r": {"out": "6.12.0\n"}}


@pytest.mark.parametrize("libvirt, qemu, host, there", [
    ("12.1.0", "10.1.0", {"texts": CONFIG, "exists": ["/dev/iommu"], "outputs": RUN}, True),
    ("12.8.0", "9.0.2", {"exists": ["/dev/iommu"]}, True),
    ("12.0.0", "10.1.0", {"texts": CONFIG, "exists": ["/dev/iommu"], "outputs": RUN}, False),
    ("9.0.0", "7.2.17", {"texts": CONFIG, "exists": ["/dev/iommu"], "outputs": RUN}, False),
    ("12.8.0", "8.2.0", {"exists": ["/dev/iommu"]}, False),
    ("12.8.0", "10.1.0", {"texts": CONFIG, "outputs": RUN}, False),
    ("12.8.0", "10.1.0", {"texts": LEGACY, "exists": ["/dev/iommu"], "outputs": RUN}, False),
    (None, "10.1.0", {"exists": ["/dev/iommu"]}, False),
])
def test_what_it_takes(libvirt: str | None, qemu: str, host: dict[str, Any], there: bool) -> None:
    hypervisor = HypervisorFacts("/usr/bin/qemu-system-x86_64", qemu, "/usr/bin/virsh", libvirt, True)
    assert has_iommufd(Recorded(host), hypervisor) is there


def test_the_domain_says_so_for_each_device() -> None:
    spec = wish("snp", gpus=2)
    assert text(spec, facts("snp", iommufd=True)).count("<driver name='vfio' iommufd='yes'/>") == 2
    assert text(spec, facts("snp")).count("<driver name='vfio'/>") == 2


@pytest.mark.parametrize("tee, entries, gib, backend, refused", [
    ("snp", 65535, 20, "group", True), ("tdx", 65535, 20, "group", True), ("snp", None, 20, "group", True),
    ("snp", 8388608, 20, "group", False), ("snp", 8388608, 64, "group", True), ("snp", 65535, 20, "iommufd", False),
    ("none", 65535, 20, "group", False), ("virtcca", 65535, 20, "group", False),
])
def test_the_limit_of_legacy_vfio(tee: str, entries: int | None, gib: int, backend: str, refused: bool) -> None:
    known = gpu_facts()
    there = replace(known, vfio=replace(known.vfio, dma_entries=entries))
    found = list(check_mappings(there, tee_of(tee), gib << 30, backend))
    assert [item.id for item in found] == (["gpu.dma-entries"] if refused else [])
    needed = {20: 8388608, 64: 16777216}[gib]
    line = (f"modprobe vfio_iommu_type1 dma_entry_limit={needed}" if entries is None else
            f"echo {needed} > /sys/module/vfio_iommu_type1/parameters/dma_entry_limit")
    assert [item.hint for item in found] == ([line] if refused else [])


def test_a_device_that_qemu_has_by_a_descriptor_is_the_one_it_has_open() -> None:
    argv = ["qemu", "-device", '{"driver":"vfio-pci","id":"hostdev0","fd":"libvirt-30-vfio","iommufd":"iommufd0"}']
    host = Recorded({"links": {"/proc/7/fd/30": "/dev/vfio/devices/vfio4", "/proc/7/fd/3": "/dev/iommu",
                               "/sys/class/vfio-dev/vfio4": f"../../devices/pci0000:80/{GPUS[0]}/vfio-dev/vfio4"}})
    opened = opened_devices(host, 7)
    assert opened == (GPUS[0],)

    def verdict(wanted: list[str], seen: tuple[str, ...]) -> str:
        return {claim.id: claim.verdict for claim in vm_claims(argv, "none", wanted, (), seen)}["vm.devices"]

    assert verdict([GPUS[0]], opened) == "proven"
    assert verdict([GPUS[1]], opened) == "failed"
    assert verdict([GPUS[0]], ()) == "failed", "nobody saw which it is"
    assert verdict([GPUS[0]], (GPUS[0], GPUS[1])) == "failed"
