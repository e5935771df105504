"""Everything that launching and `vmtool doctor` need to know about the host, read in one go."""

from __future__ import annotations

from pathlib import Path

from vmtool.containerd.facts import ContainerdFacts, RuncFacts, containerd_questions, read_containerd, read_runc
from vmtool.facts.cpu import CpuFacts, read_cpu, read_is_root
from vmtool.facts.kernel import KernelFacts, kernel_questions, read_kernel
from vmtool.facts.kvm import PROBE, KvmFacts, read_kvm
from vmtool.facts.memory import CgroupFacts, DiskFacts, MemoryFacts, read_cgroups, read_disk, read_memory
from vmtool.facts.versions import versions
from vmtool.frozen import dataclass
from vmtool.gpu.iommu import IommuFacts, read_iommu
from vmtool.kata.shims import KataFacts, read_kata
from vmtool.libvirt.installed import HypervisorFacts, read_hypervisor
from vmtool.machine import HostReader, Reader
from vmtool.net.facts import NetworkFacts, network_questions, read_network
from vmtool.paths import State
from vmtool.tee.facts import TeeFacts, read_tee


@dataclass(frozen=True)
class HostFacts:
    """One host at one moment; `is_root` says whether the one who looked could see everything."""

    is_root: bool
    cpu: CpuFacts
    kernel: KernelFacts
    kvm: KvmFacts
    tee: TeeFacts
    iommu: IommuFacts
    memory: MemoryFacts
    cgroups: CgroupFacts
    disk: DiskFacts
    containerd: ContainerdFacts
    runc: RuncFacts
    kata: KataFacts
    hypervisor: HypervisorFacts
    network: NetworkFacts


def read_host(reader: HostReader, state_root: Path | str, guests: bool = True) -> HostFacts:
    """Read all facts.

    Args:
        state_root: vmtool's state directory, whose file system must have room; it need not exist.
        guests: whether guests are to run here. Then one is run to judge KVM: tenths of a second where KVM is emulated,
            at most thirty seconds where it hangs. Without it KVM is "not-checked", and so is virtCCA, and the versions
            of QEMU and libvirt are unknown.
    """
    cpu = read_cpu(reader)
    with reader.beside((*questions(reader), *(guest_questions(reader, cpu) if guests else ()))):
        return _read(reader, cpu, Path(state_root), guests)


def questions(reader: Reader) -> tuple[tuple[str, ...], ...]:
    """Most of the programs that `read_host` runs."""
    return (*containerd_questions(reader), *kernel_questions(reader), *network_questions(reader))


def guest_questions(reader: Reader, cpu: CpuFacts) -> tuple[tuple[str, ...], ...]:
    """The same, where guests are to run."""
    return (PROBE, *versions(reader, f"qemu-system-{cpu.arch}", "virsh"))


def _read(reader: Reader, cpu: CpuFacts, state_root: Path, guests: bool) -> HostFacts:
    """Whatever takes long and was started before is asked for last."""
    kernel = read_kernel(reader)
    network = read_network(reader, State(state_root))
    kata = read_kata(reader, cpu.arch)
    kvm = read_kvm(reader, cpu, guests)
    return HostFacts(
        is_root=read_is_root(reader),
        cpu=cpu,
        kernel=kernel,
        kvm=kvm,
        tee=read_tee(reader, cpu, kvm),
        iommu=read_iommu(reader, cpu, kernel),
        memory=read_memory(reader),
        cgroups=read_cgroups(reader),
        disk=read_disk(reader, str(state_root)),
        containerd=read_containerd(reader),
        runc=read_runc(reader),
        kata=kata,
        hypervisor=read_hypervisor(reader, cpu.arch, versions=guests),
        network=network,
    )
