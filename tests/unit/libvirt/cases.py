"""Wishes, and hosts for them, that the tests of libvirt's domains share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.fakes.launches import chosen_of
from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import NETWORK
from vmtool.debian.tools import Tools
from vmtool.doctor.host import HostFacts, read_host
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.findings import Finding, lines
from vmtool.gpu.facts import GpuFacts, read_gpu
from vmtool.gpu.launch_devices import Selection
from vmtool.libvirt.facts import DomainFacts, GuestImage
from vmtool.libvirt.installed import HypervisorFacts
from vmtool.libvirt.launch_domain import launch_domain
from vmtool.paths import State
from vmtool.rootfs.format.image_file import Extent
from vmtool.rootfs.metadata.manifest import VerityPart
from vmtool.spec.runtime import Spec
from vmtool.tee.table import tee_of
from vmtool.tee.tee import TeeSupport

STATE = State(Path("/s"))
BRIDGE = "vmt-chat"
BOOTS = ("kernel", "firmware")
# All of them make sense: what TEE a guest has, what it boots from and what is passed on are three matters.
COMBINATIONS = [(tee, gpus, boot) for tee in ("none", "virtcca", "snp", "tdx") for gpus in (0, 1, 2) for boot in BOOTS]
GPUS = ("0000:81:00.0", "0000:c1:00.0")
FIRMWARE = {"none": "/usr/share/OVMF/OVMF_CODE.fd", "virtcca": "/usr/share/AAVMF/AAVMF_CODE.fd",
            "snp": "/usr/share/OVMF/OVMF.amdsev.fd", "tdx": "/usr/share/OVMF/OVMF.inteltdx.fd"}
YES = TeeSupport(True, ("said so",))


def name_of(tee: str, gpus: int, boot: str) -> str:
    """The golden file of a combination."""
    return f"{tee}-{gpus}gpu-{boot}"


def wish(tee: str = "none", gpus: int = 0, boot: str = "kernel", libvirt: dict[str, Any] | None = None,
         **changes: Any) -> Spec:
    """A spec that the host of `facts` can launch, or render with boot firmware."""
    wanted: dict[str, Any] = {"image": "/i/rootfs.img", "boot": boot}
    if boot == "firmware" or tee in ("snp", "tdx"):
        wanted["firmware"] = FIRMWARE[tee]
    body = {
        "runtime": {"handler": "libvirt", "tee": tee, "libvirt": wanted | (libvirt or {})},
        "allow_unconfidential": tee == "none", "image": "vmtool/x", "model": {"name": "m", "path": "/m"},
        "resources": {"memory": "20Gi", "cpus": 3.5, "accelerators": {"bdf": GPUS[:gpus]}},
        "network": {"publish": ["8000"]}}
    return Spec.model_validate({"apiVersion": "vmtool/v1", "kind": "Runtime", "metadata": {"name": "chat"},
                                "spec": body | changes})


def facts(tee: str = "none", **changes: Any) -> DomainFacts:
    """A host that can run guests in the TEE."""
    known = tee_of(tee)
    architecture = known.architecture.machine if known else "x86_64"
    image = GuestImage(Path("/i/rootfs.img"), Extent(0, 1 << 30, "ext4"), "", "multi-user.target",
                       Path("/i/rootfs.img.vmlinuz"), VerityPart(root_hash="ab" * 32, salt="cd", data_blocks=100))
    return replace(DomainFacts(image, architecture, f"/usr/bin/qemu-system-{architecture}", True, True, "12.8.0",
                               Path("/bin/busybox"), Tools(None), 1 << 20, "/usr/sbin/dmsetup"), **changes)


@cache
def gpu_facts() -> GpuFacts:
    """Two GPUs that nobody uses."""
    limit = {"/sys/module/vfio_iommu_type1/parameters/dma_entry_limit": "8388608\n"}
    return read_gpu(Recorded.load("gpu-kunpeng-a100", texts=limit), STATE)


def chosen(spec: Spec) -> Selection | None:
    """The accelerators of the spec, on a host with two GPUs that nobody uses."""
    return chosen_of(spec, gpu_facts())


def spoken(findings: Iterable[Finding]) -> list[tuple[type[VmtoolError], str]]:
    """Which error each of them makes, and its line."""
    return [(Refused if item.fault == "input" else NotReady, lines([item])[0]) for item in findings]


def text(spec: Spec, on: DomainFacts | None = None) -> str:
    """The description, as a launch has it."""
    selection = chosen(spec)
    made = launch_domain(STATE, spec, on or facts(spec.spec.runtime.tee), selection.bdfs if selection else (), BRIDGE)
    return made.text



def host() -> HostFacts:
    """A machine with libvirt, on which every TEE of x86 would be at hand."""
    plain = read_host(Recorded.load("debian12-pvm"), "/s", guests=False)
    config = dict.fromkeys((*plain.kernel.config, "VHOST_VSOCK", "VFIO", "VFIO_PCI", "VFIO_IOMMU_TYPE1"), "y")
    return replace(plain, network=NETWORK, kernel=replace(plain.kernel, config=config),
                   memory=replace(plain.memory, total=64 << 30), cpu=replace(plain.cpu, cores=16),
                   kvm=replace(plain.kvm, verdict="runs"), tee=plain.tee | {"snp": YES, "tdx": YES},
                   hypervisor=HypervisorFacts(qemu="/usr/bin/qemu-system-x86_64", qemu_version="10.1.0",
                                              virsh="/usr/bin/virsh", libvirt_version="12.8.0", socket=True),
                   iommu=replace(plain.iommu, groups=9, vfio_group=True))
