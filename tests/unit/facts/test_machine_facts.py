"""Processor, kernel, memory, control groups, disk, IOMMU, QEMU: what the files and programs say, and their absence."""

from __future__ import annotations

import pytest

from tests.fakes.recorded import HOSTS, Recorded
from vmtool.doctor.host import read_host
from vmtool.facts.cpu import CpuFacts, read_cpu, read_is_root
from vmtool.facts.kernel import KernelFacts, read_kernel
from vmtool.facts.memory import CgroupFacts, DiskFacts, read_cgroups, read_disk, read_memory
from vmtool.gpu.iommu import read_iommu
from vmtool.libvirt.installed import read_hypervisor

STATE = "/var/lib/vmtool"
NOTHING = Recorded({})


def test_a_host_that_tells_nothing_raises_nothing() -> None:
    facts = read_host(NOTHING, STATE)
    assert (facts.cpu.arch, facts.cpu.cores, facts.cpu.vendor, facts.is_root) == ("", 0, None, False)
    assert (facts.kernel.release, facts.kernel.page_size, facts.kernel.config_source) == ("", None, None)
    assert (facts.memory.total, facts.memory.available, facts.cgroups.version, facts.disk.free) == (None,) * 4
    assert (facts.containerd.binary, facts.containerd.answers, facts.runc.binary) == (None, None, None)
    assert (facts.kvm.verdict, facts.kata.shims, facts.kata.handlers, facts.iommu.groups) == ("absent", (), (), 0)


@pytest.mark.parametrize("path", sorted(HOSTS.glob("*.json")), ids=lambda path: path.stem)
def test_every_recorded_host_tells_its_origin(path: object) -> None:
    origin = Recorded.load(getattr(path, "stem", "")).data["origin"]
    assert origin.startswith(("Recorded with", "Written from documentation"))


@pytest.mark.parametrize(("host", "cpu"), [
    ("debian12-pvm", CpuFacts("x86_64", "AuthenticAMD", "AMD EPYC", 2, None, True)),
    ("epyc-snp", CpuFacts("x86_64", "AuthenticAMD", "AMD EPYC 9454 48-Core Processor", 4, "svm", False)),
    ("xeon-tdx", CpuFacts("x86_64", "GenuineIntel", "INTEL(R) XEON(R) PLATINUM 8592+", 4, "vmx", False)),
    ("kunpeng-virtcca", CpuFacts("aarch64", "HiSilicon", "TaiShan v120", 4, None, False)),
])
def test_processor(host: str, cpu: CpuFacts) -> None:
    assert read_cpu(Recorded.load(host)) == cpu


def test_unknown_arm_processor_keeps_its_numbers() -> None:
    text = "processor\t: 0\nCPU implementer\t: 0x99\nCPU part\t: 0x123\n"
    cpu = read_cpu(Recorded({"texts": {"/proc/cpuinfo": text}}))
    assert (cpu.vendor, cpu.model) == ("0x99", "part 0x123")


@pytest.mark.parametrize(("line", "is_root"), [("Uid:\t1000\t0\t0\t0", True), ("Uid:\t0\t1000\t0\t0", False)])
def test_the_effective_user_counts(line: str, is_root: bool) -> None:
    assert read_is_root(Recorded({"texts": {"/proc/self/status": f"Name:\tx\n{line}\n"}})) is is_root


def test_configuration_of_the_running_kernel_comes_first() -> None:
    host = Recorded({"exists": ["/proc/config.gz"], "texts": {"/boot/config-6.1.0": "CONFIG_KVM=m\n"},
                     "outputs": {"uname -r": {"out": "6.1.0\n"}, "zcat /proc/config.gz": {"out": "CONFIG_VFIO=y\n"}}})
    kernel = read_kernel(host)
    assert (kernel.config_source, kernel.config["VFIO"], kernel.config["KVM"]) == ("/proc/config.gz", "y", "n")
    host.data["outputs"].pop("zcat /proc/config.gz")
    kernel = read_kernel(host)
    assert (kernel.config_source, kernel.config["VFIO"], kernel.config["KVM"]) == ("/boot/config-6.1.0", "n", "m")


@pytest.mark.parametrize(("cmdline", "name", "value"), [
    ("quiet iommu=pt", "iommu", "pt"),
    ("iommu=off iommu=pt", "iommu", "pt"),
    ("arm-smmu-v3.disable_ecmdq=1", "arm_smmu_v3.disable_ecmdq", "1"),
    ("nomodule", "nomodule", ""),
    ("quiet", "iommu", None),
    ("quiet -- iommu=pt", "iommu", None),
])
def test_kernel_parameter(cmdline: str, name: str, value: str | None) -> None:
    assert read_kernel(Recorded({"texts": {"/proc/cmdline": cmdline + "\n"}})).parameter(name) == value


def test_memory_in_bytes() -> None:
    memory = read_memory(Recorded({"texts": {"/proc/meminfo": "MemTotal: 2048 kB\nMemAvailable: 1024 kB\n"
                                             "HugePages_Total: 7\nHugePages_Free: 3\nHugepagesize: 2048 kB\n"}}))
    assert (memory.total, memory.available) == (2 << 20, 1 << 20)
    assert (memory.hugepages_total, memory.hugepages_free, memory.hugepage_size) == (7, 3, 2 << 20)


@pytest.mark.parametrize(("data", "facts"), [
    ({"texts": {"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu memory pids\n"}},
     CgroupFacts(2, ("cpu", "cpuset", "memory", "pids"))),
    ({"texts": {"/proc/cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t1\t1\ncpuacct\t2\t1\t1\n"
                                 "memory\t4\t1\t0\npids\t8\t1\t1\n"},
      "names": {"/sys/fs/cgroup": ["cpu,cpuacct", "memory", "systemd"]}}, CgroupFacts(1, ("cpu", "cpuacct"))),
    ({}, CgroupFacts(None, ())),
], ids=["unified", "version 1 with memory disabled and pids not mounted", "none"])
def test_control_groups(data: dict[str, dict[str, str]], facts: CgroupFacts) -> None:
    assert read_cgroups(Recorded(data)) == facts


def test_disk_of_the_nearest_directory_that_exists() -> None:
    missing = {"status": 1, "err": "stat: cannot read file system information\n"}
    outputs = {"stat -f -c '%a %S %T' /srv/a/b": missing, "stat -f -c '%a %S %T' /srv/a": missing,
               "stat -f -c '%a %S %T' /srv": {"out": "10 4096 xfs\n"}}
    assert read_disk(Recorded({"outputs": outputs}), "/srv/a/b") == DiskFacts("/srv/a/b", "/srv", 40960, "xfs")
    assert read_disk(NOTHING, "/srv/a/b") == DiskFacts("/srv/a/b", "/", None, "")


@pytest.mark.parametrize(("vendor", "arch", "cmdline", "in_guest", "words"), [
    ("GenuineIntel", "x86_64", (), False, "VT-d in the firmware and boot with the kernel parameter intel_iommu=on"),
    ("AuthenticAMD", "x86_64", (), False, "AMD-Vi) in the firmware; no kernel parameter"),
    ("AuthenticAMD", "x86_64", ("amd_iommu=off",), False, "boot without amd_iommu=off"),
    ("HiSilicon", "aarch64", (), False, "SMMU in the firmware"),
    ("GenuineIntel", "x86_64", (), True, "itself a virtual machine"),
])
def test_what_turns_the_iommu_on(vendor: str, arch: str, cmdline: tuple[str, ...], in_guest: bool, words: str) -> None:
    kernel = KernelFacts("6.1.0", 4096, cmdline, (), {}, None)
    facts = read_iommu(NOTHING, CpuFacts(arch, vendor, None, 1, None, in_guest), kernel)
    assert (facts.groups, facts.parameters) == (0, cmdline)
    assert words in facts.enable


def test_qemu_of_the_rpm_family() -> None:
    facts = read_hypervisor(Recorded({"exists": ["/usr/libexec/qemu-kvm"], "outputs": {
        "/usr/libexec/qemu-kvm --version": {"out": "QEMU emulator version 8.2.0 (qemu-8.2.0-1.oe2403)\n"}}}), "aarch64")
    assert (facts.qemu, facts.qemu_version) == ("/usr/libexec/qemu-kvm", "8.2.0")
    assert (facts.virsh, facts.libvirt_version, facts.socket) == (None, None, False)
