"""Hosts x purposes -> findings. A host is a file of tests/data/hosts, here and there with one thing changed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.fakes.recorded import HOSTS, Recorded
from vmtool.doctor.diagnose import diagnose, group_of
from vmtool.doctor.host import HostFacts, read_host
from vmtool.findings import HANDLERS, Finding, Handler
from vmtool.tee.table import TEE_NAMES, TeeName

STATE = "/var/lib/vmtool"
MACHINE = ["user.root", "cpu.arch", "kernel.overlayfs", "memory.limits", "kernel.options", "memory.available",
           "disk.free"]
VM_MACHINE = ["user.root", "cpu.arch", "kernel.options", "memory.available", "disk.free"]
SYSTEM_CONTAINERD = ["containerd.installed", "containerd.version", "containerd.answers", "containerd.ctr",
                     "containerd.snapshotter"]
NETWORK = ["cni.plugins", "network.addresses", "network.iptables"]


def found(host: Recorded, purpose: Handler = "runc", tee: TeeName = "none") -> dict[str, Finding]:
    return {item.id: item for item in diagnose(read_host(host, STATE), purpose, tee)}


@pytest.mark.parametrize(("host", "purpose", "tee", "ids", "not_ok"), [
    ("debian12-pvm", "runc", "none",
     [*MACHINE, *SYSTEM_CONTAINERD[:3], "runc.installed", *NETWORK], {"containerd.answers": "warn"}),
    ("debian12-pvm", "kata", "none",
     [*MACHINE, *SYSTEM_CONTAINERD[:3], *NETWORK, "kvm.runs-guests", "iommu.groups", "kata.shim", "kata.vsock"],
     {"containerd.answers": "warn", "kernel.options": "fail", "kvm.runs-guests": "fail", "iommu.groups": "warn",
      "kata.shim": "fail", "kata.vsock": "fail"}),
    ("debian12-pvm", "libvirt", "none",
     [*VM_MACHINE, "kvm.runs-guests", "iommu.groups", "libvirt.qemu", "libvirt.installed"],
     {"kernel.options": "warn", "kvm.runs-guests": "warn", "iommu.groups": "warn", "libvirt.qemu": "fail",
      "libvirt.installed": "fail"}),
    ("kunpeng-virtcca", "kata", "virtcca",
     [*MACHINE, "kernel.page-size", "kernel.cmdline.virtcca", "kernel.release", *SYSTEM_CONTAINERD, *NETWORK,
      "kvm.runs-guests", "iommu.groups", "iommu.vfio", "kata.shim", "kata.config", "kata.virtcca.kata",
      "kata.handler.kata", "kata.vsock", "tee.virtcca"], {"kvm.runs-guests": "not-checked"}),
    ("epyc-snp", "kata", "snp",
     [*MACHINE, *SYSTEM_CONTAINERD, *NETWORK, "kvm.runs-guests", "iommu.groups", "iommu.vfio", "iommu.dma-entries",
      "kata.shim", "kata.config", "kata.handler.kata-qemu-snp", "kata.vsock", "tee.snp"],
     {"kata.handler.kata-qemu-snp": "warn"}),
    ("epyc-snp", "runc", "none", [*MACHINE, *SYSTEM_CONTAINERD, "runc.installed", *NETWORK], {}),
    ("epyc-snp", "libvirt", "tdx",
     [*VM_MACHINE, "kvm.runs-guests", "iommu.groups", "iommu.vfio", "iommu.dma-entries", "libvirt.qemu",
      "libvirt.installed", "tee.tdx"],
     {"libvirt.qemu": "fail", "libvirt.installed": "fail", "tee.tdx": "fail"}),
    ("xeon-tdx", "libvirt", "tdx",
     [*VM_MACHINE, "kvm.runs-guests", "iommu.groups", "iommu.vfio", "iommu.dma-entries", "libvirt.qemu",
      "libvirt.installed", "libvirt.system", "libvirt.launch-security", "tee.tdx"],
     {"libvirt.launch-security": "not-checked"}),
    ("old-bare", "runc", "none", [*MACHINE, "containerd.installed", "runc.installed", *NETWORK],
     {"kernel.overlayfs": "fail", "memory.limits": "fail", "kernel.options": "fail", "memory.available": "not-checked",
      "disk.free": "fail", "containerd.installed": "fail", "runc.installed": "fail", "cni.plugins": "fail",
      "network.addresses": "not-checked", "network.iptables": "fail"}),
    ("old-bare", "kata", "tdx",
     [*MACHINE, "containerd.installed", *NETWORK, "kvm.runs-guests", "iommu.groups", "kata.shim", "kata.vsock",
      "tee.tdx"],
     {"kernel.overlayfs": "fail", "memory.limits": "fail", "kernel.options": "fail", "memory.available": "not-checked",
      "disk.free": "fail", "containerd.installed": "fail", "cni.plugins": "fail", "network.addresses": "not-checked",
      "network.iptables": "fail", "kvm.runs-guests": "fail", "iommu.groups": "warn", "kata.shim": "fail",
      "kata.vsock": "fail", "tee.tdx": "not-checked"}),
])
def test_hosts(host: str, purpose: Handler, tee: TeeName, ids: list[str], not_ok: dict[str, str]) -> None:
    findings = found(Recorded.load(host), purpose, tee)
    assert list(findings) == ids
    assert {id: item.level for id, item in findings.items() if item.level != "ok"} == not_ok


USER = {"texts": {"/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\n"}}
PROBE = "python -I -m vmtool.facts.kvm_probe"
# The probe hangs while a child that does nothing ends.
HANGS: dict[str, Any] = {PROBE: None, "python -I -c pass": {}}
CTR = "ctr --address /run/containerd/containerd.sock --connect-timeout 1s"
DISK = "stat -f -c '%a %S %T' /var/lib"
KATA = "/usr/local/bin/containerd-shim-kata-v2"
CONFLIST = '{{"name": "{0}", "plugins": [{{"type": "bridge", "bridge": "{0}", "ipam": {{"subnet": "{1}"}}}}]}}'


@pytest.mark.parametrize(("host", "changes", "purpose", "tee", "id", "level", "detail", "hint"), [
    ("epyc-snp", USER, "kata", "snp", "user.root", "warn", "ordinary user", "sudo vmtool doctor"),
    ("epyc-snp", {"outputs": {"uname -m": {"out": "riscv64\n"}}}, "runc", "none", "cpu.arch", "fail", "riscv64",
     "x86_64 or aarch64"),
    ("xeon-tdx", {"texts": {"/proc/filesystems": "\text4\n", "/boot/config-6.16.3": "CONFIG_OVERLAY_FS=m\n"}}, "runc",
     "none", "kernel.overlayfs", "warn", "module that is not loaded", "modprobe overlay"),
    ("xeon-tdx", {"texts": {"/proc/filesystems": "\text4\n", "/boot/config-6.16.3": None}}, "runc", "none",
     "kernel.overlayfs", "not-checked", "configuration was not found", "modprobe overlay"),
    ("xeon-tdx", {"texts": {"/boot/config-6.16.3": None}}, "kata", "none", "kernel.options", "not-checked",
     "no configuration of kernel 6.16.3", "/boot/config-6.16.3"),
    ("xeon-tdx", {"texts": {"/proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 900000 kB\n"}}, "runc", "none",
     "memory.available", "fail", "0.9 GiB of 1.0 GiB", "2.0 GiB"),
    ("xeon-tdx", {"texts": {"/proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 900000 kB\n"}}, "runc", "none",
     "memory.available", "warn", "0.9 GiB of 7.6 GiB", "ps aux"),
    ("xeon-tdx", {"texts": {"/sys/fs/cgroup/cgroup.controllers": "cpu pids\n"}}, "runc", "none", "memory.limits",
     "fail", "missing: memory", "cgroup_disable="),
    ("xeon-tdx", {"outputs": {DISK: {"out": f"{5 << 18} 4096 xfs\n"}}}, "runc", "none", "disk.free", "warn",
     "5.0 GiB for /var/lib/vmtool", "--state-dir"),
    ("xeon-tdx", {"outputs": {DISK: None}}, "runc", "none", "disk.free", "not-checked", "could not be asked",
     "df -h /"),
    ("xeon-tdx", {"which": {"containerd-shim-runc-v2": None}}, "runc", "none", "containerd.installed", "fail",
     "not installed: containerd-shim-runc-v2", "apt-get install containerd"),
    ("xeon-tdx", {"outputs": {"/usr/bin/containerd --version": {"out": "containerd x/y v1.4.13 abc\n"}}}, "runc",
     "none", "containerd.version", "warn", "1.4.13", "1.6 or newer"),
    ("xeon-tdx", {"outputs": {"/usr/bin/containerd --version": {"out": "containerd x/y v2 abc\n"}}}, "runc", "none",
     "containerd.version", "not-checked", "not understood: 2", "containerd --version"),
    ("xeon-tdx", {"outputs": {"/usr/bin/containerd --version": {"out": "devel\n"}}}, "runc", "none",
     "containerd.version", "not-checked", "not understood", "containerd --version"),
    ("xeon-tdx", {"outputs": {"test -w /run/containerd/containerd.sock": {"status": 1}}}, "runc", "none",
     "containerd.answers", "not-checked", "may not ask", "sudo vmtool doctor"),
    ("xeon-tdx", {"outputs": {f"{CTR} version": {"status": 1}}}, "runc", "none", "containerd.answers", "warn",
     "would start a private one", "systemctl enable --now containerd"),
    ("xeon-tdx", {"outputs": {"/usr/bin/ctr --version": {"out": "ctr x/y v1.7.0\n"}}}, "runc", "none",
     "containerd.ctr", "warn", "ctr 1.7.0, containerd 2.0.5", "systemctl restart containerd"),
    ("xeon-tdx", {"outputs": {f"{CTR} plugins ls": {"out": "io.containerd.snapshotter.v1 native - ok\n"}}}, "runc",
     "none", "containerd.snapshotter", "fail", "usable: native", "plugins ls --detailed"),
    ("xeon-tdx", {"names": {"/opt/cni/bin": ["bridge", "host-local", "firewall"]}}, "runc", "none", "cni.plugins",
     "fail", "/opt/cni/bin lacks portmap", "apt-get install containernetworking-plugins"),
    ("xeon-tdx", {"outputs": {"env CNI_COMMAND=VERSION /opt/cni/bin/portmap": None}}, "runc", "none", "cni.plugins",
     "not-checked", "versions are unknown", "CNI_COMMAND=VERSION /opt/cni/bin/bridge"),
    ("xeon-tdx", {"texts": {"/etc/cni/net.d/a.conflist": CONFLIST.format("a", "10.9.0.0/16"),
                            "/etc/cni/net.d/b.conflist": CONFLIST.format("b", "10.9.7.0/24")}}, "runc", "none",
     "network.addresses", "warn", "10.9.0.0/16 of /etc/cni/net.d/a.conflist overlaps 10.9.7.0/24",
     "change the subnet in /etc/cni/net.d/b.conflist"),
    # Two ranges of one network are its own affair.
    ("xeon-tdx", {"texts": {"/etc/cni/net.d/a.conflist": CONFLIST.format("a", "10.9.0.0/16").replace(
        "}]}", '}, {"type": "bridge", "bridge": "a", "ipam": {"subnet": "10.9.7.0/24"}}]}')}}, "runc", "none",
     "network.addresses", "ok", "such as", ""),
    ("xeon-tdx", {**USER, "outputs": {"iptables -w -t nat -S": None, "iptables -w -t filter -S": None}}, "runc", "none",
     "network.iptables", "not-checked", "ordinary user", "sudo vmtool doctor"),
    ("xeon-tdx", {"outputs": {"iptables -w -t filter -S": {"out": "-P FORWARD DROP\n"}}}, "runc", "none",
     "network.forward", "warn", "FORWARD policy is DROP", "CNI-ADMIN"),
    ("epyc-snp", {"outputs": {PROBE: {"out": '{"stage": "open", "error": "[Errno 13] Permission denied"}\n'}},
                  **USER}, "kata", "snp", "kvm.runs-guests", "not-checked", "could not ask", "sudo vmtool doctor"),
    ("epyc-snp", {"outputs": HANGS}, "kata", "snp", "kvm.runs-guests", "fail", "did not end within 30 s",
     "SVM in the firmware, then: modprobe kvm_amd"),
    ("epyc-snp", {"outputs": HANGS}, "libvirt", "none", "kvm.runs-guests", "warn", "did not end",
     "under TCG, many times slower"),
    ("epyc-snp", {"names": {"/sys/kernel/iommu_groups": []}}, "kata", "snp", "iommu.groups", "fail", "iommu=pt",
     "AMD-Vi"),
    ("xeon-tdx", {"names": {"/sys/kernel/iommu_groups": []}}, "libvirt", "none", "iommu.groups", "warn", "no GPU",
     "intel_iommu=on"),
    ("epyc-snp", {"texts": {"/proc/cmdline": "pcie_acs_override=downstream\n"}}, "kata", "none", "iommu.acs", "warn",
     "pretends", "remove pcie_acs_override"),
    ("epyc-snp", {"names": {"/usr/local/bin": []}, "links": {KATA: None}}, "kata", "snp", "kata.shim", "warn",
     "/opt/kata/bin/containerd-shim-kata-v2", "ln -s /opt/kata/bin/containerd-shim-kata-v2 /usr/local/bin/"),
    ("kunpeng-virtcca", {"texts": {"/etc/kata-containers/configuration.toml": None}}, "kata", "virtcca", "kata.config",
     "warn", "none of /etc/kata-containers/configuration.toml", "--runtime-config-path"),
    ("kunpeng-virtcca", {"outputs": {f"grep --quiet --text --fixed-strings tmm-guest {KATA}": {"status": 1}}}, "kata",
     "virtcca", "kata.virtcca.kata", "fail", "ordinary VM in silence", f"grep -c tmm-guest {KATA}"),
    ("kunpeng-virtcca", {"outputs": {f"grep --quiet --text --fixed-strings tmm-guest {KATA}": None}}, "kata",
     "virtcca", "kata.virtcca.kata", "not-checked", "could not be searched", "virtCCA patch"),
    ("kunpeng-virtcca", {"outputs": {"getconf PAGESIZE": {"out": "65536\n"}}}, "kata", "virtcca", "kernel.page-size",
     "fail", "65536 bytes", "CONFIG_ARM64_4K_PAGES"),
    ("kunpeng-virtcca", {"outputs": {"getconf PAGESIZE": None}}, "kata", "virtcca", "kernel.page-size", "not-checked",
     "getconf", "getconf PAGESIZE"),
    ("kunpeng-virtcca", {"texts": {"/proc/cmdline": "virtcca_cvm_host=1\n"}}, "kata", "virtcca",
     "kernel.cmdline.virtcca", "fail", "missing: arm_smmu_v3.disable_ecmdq=1 vfio_pci.disable_idle_d3=1",
     "reboot: arm_smmu_v3.disable_ecmdq=1 vfio_pci.disable_idle_d3=1"),
    ("kunpeng-virtcca", {"outputs": {"uname -r": {"out": "5.10.0-216.oe2203sp4.aarch64\n"}}}, "kata", "virtcca",
     "kernel.release", "warn", "5.10.0", "OLK-6.6"),
    ("kunpeng-virtcca", {"outputs": {PROBE: {"out": '{"stage": "run", "machine": "aarch64", "api": 12, '
                                                    '"virtcca_extension": 0}\n'}}}, "kata", "virtcca", "tee.virtcca",
     "fail", "answers 0", "virtcca_cvm_host=1"),
    ("kunpeng-virtcca", {**USER, "outputs": {"dmesg": None, PROBE: {"out": '{"stage": "open", "error": "x"}\n'}}},
     "kata", "virtcca", "tee.virtcca", "not-checked", "could not be asked", "sudo vmtool doctor"),
    ("xeon-tdx", {"texts": {"/sys/module/kvm_intel/parameters/tdx": "N\n"}}, "libvirt", "tdx", "tee.tdx", "fail",
     "tdx is N", "kvm_intel.tdx=1"),
    ("debian12-pvm", {}, "kata", "snp", "tee.snp", "fail", "no svm flag", "use a bare machine"),
])
def test_one_thing_changed(host: str, changes: dict[str, Any], purpose: Handler, tee: TeeName, id: str, level: str,
                           detail: str, hint: str) -> None:
    item = found(Recorded.load(host, **changes), purpose, tee)[id]
    assert item.level == level, item
    assert detail in item.detail
    assert hint in item.hint


def facts_of(host: str, is_root: bool) -> HostFacts:
    return dataclasses.replace(read_host(Recorded.load(host), STATE), is_root=is_root)


@pytest.mark.parametrize("host", sorted(path.stem for path in HOSTS.glob("*.json")))
@pytest.mark.parametrize("purpose", HANDLERS)
@pytest.mark.parametrize("tee", TEE_NAMES)
@pytest.mark.parametrize("is_root", [True, False])
def test_form(host: str, purpose: Handler, tee: TeeName, is_root: bool) -> None:
    """Each id once, one heading each without a break, a hint exactly below what is not ok, one line per text."""
    findings = diagnose(facts_of(host, is_root), purpose, tee)
    ids = [item.id for item in findings]
    assert len(ids) == len(set(ids))
    headings = [group_of(item) for item in findings]
    assert headings == sorted(headings, key=["machine", "containers", "guests", "confidential"].index)
    for item in findings:
        assert bool(item.hint) == (item.level != "ok"), item
        assert item.title and item.detail and "\n" not in item.detail + item.hint, item


def test_without_the_probe_kvm_and_virtcca_are_not_claimed() -> None:
    facts = read_host(Recorded.load("kunpeng-virtcca", outputs={"dmesg": None}), STATE, guests=False)
    levels = {item.id: item.level for item in diagnose(facts, "kata", "virtcca")}
    assert (levels["kvm.runs-guests"], levels["tee.virtcca"]) == ("not-checked", "not-checked")


LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"


@pytest.mark.parametrize("text, tee, level, detail", [
    ("65535\n", "snp", "warn", "dma_entry_limit 65535: by legacy VFIO a guest in snp with a GPU ends when it shares "
     "more than 255 MiB; iommufd, which this host has, knows no such limit"),
    (None, "snp", "note", "vfio_iommu_type1 is not loaded: 65535 of 4 KiB for a confidential guest, unless it is "
     "loaded with more"),
    ("268435456\n", "snp", "ok", "dma_entry_limit 268435456"),
    ("65535\n", "none", None, ""),
])
def test_mappings_of_confidential_guests(text: str | None, tee: TeeName, level: str | None, detail: str) -> None:
    findings = found(Recorded.load("dma-limit", texts={LIMIT: text}), "kata", tee)
    item = findings.get("iommu.dma-entries")
    assert (item and (item.level, item.detail)) == (level and (level, detail))
    if item and level == "warn":
        assert item.hint == f"echo 268435456 > {LIMIT}"
    if item and level == "note":
        assert item.hint == "modprobe vfio_iommu_type1 dma_entry_limit=268435456"
