"""The rules of Kata's configuration, for rendering and for checking: one table, and what a finding of one says."""

from __future__ import annotations

from typing import Literal

from vmtool.findings import Level
from vmtool.frozen import dataclass
from vmtool.spec.kata_releases import Release

# What Kata does: refuses the file, refuses the VM, changes a value or ignores it without a word; or nothing, and it is
# the guest that is not as it should be.
When = Literal["load", "start", "silent", "guest"]


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        level: fail: it will not start, or would not be what was asked for; warn: it starts, and something is not as it
            seems; note: worth knowing.
        about: what it is about.
        since, before: the releases that have it: from the one, up to but without the other.
    """

    level: Level
    when: When
    about: str
    since: tuple[int, ...] = ()
    before: tuple[int, ...] = (1 << 30,)

    def holds(self, release: Release) -> bool:
        return self.since <= release.version < self.before


SECTORS = NUMA = (3, 30)
# Ids are stable.
RULES: dict[str, Rule] = {
    "key.unknown": Rule("fail", "silent", "a key that the release does not know is ignored without a word"),
    "key.other-release": Rule("warn", "silent", "a key that only other releases know is ignored without a word"),
    "key.other-hypervisor": Rule("warn", "silent", "QEMU's part of the runtime does not read it"),
    "key.drop-in": Rule("fail", "load", "an unknown hypervisor or agent key in a drop-in keeps the shim from starting"),
    "key.twice": Rule("fail", "silent", "one key in two spellings: the runtime takes either, by chance"),
    "drop-in.table": Rule("warn", "silent", "a drop-in's table in other letter case is read and thrown away"),
    "section.unknown": Rule("warn", "silent", "a section that nothing reads"),
    "section.missing": Rule("fail", "load", "without [hypervisor.qemu] there is no hypervisor"),
    "section.scalar": Rule("fail", "load", "a value where a table belongs"),
    "section.ignored": Rule("warn", "silent", "a value where named tables belong is passed over"),
    "hypervisor.unknown": Rule("fail", "load", "a hypervisor that the runtime does not know"),
    "hypervisor.several": Rule("fail", "silent", "of several hypervisors the runtime takes one by chance"),
    "agent.several": Rule("fail", "silent", "of several agents the runtime takes one by chance"),
    "type.wrong": Rule("fail", "load", "a wrong type keeps the shim from starting"),
    "type.range": Rule("fail", "load", "a number that its type cannot hold"),
    "value.enum": Rule("fail", "load", "a value that the shim refuses at load"),
    "value.sectors": Rule("fail", "load", "sector sizes are powers of two from 512 to 65536, the logical one not the "
                          "larger", since=SECTORS),
    "value.netns": Rule("fail", "load", "disable_new_netns goes with internetworking_model none only"),
    "value.template": Rule("fail", "load", "VM templates need an initrd"),
    "value.extension": Rule("fail", "load", "each extension image has a name of its own and a file", since=(4, 0)),
    "value.bind-mounts": Rule("fail", "load", "two bind mounts cannot have one base name"),
    "value.numa": Rule("fail", "load", "several NUMA nodes need a VM of fixed size", since=NUMA),
    "asset.unset": Rule("fail", "load", "path and kernel must be set"),
    "asset.root": Rule("fail", "start", "exactly one of image and initrd"),
    "asset.absent": Rule("fail", "load", "a file that the shim needs is not on this host"),
    "asset.virtiofsd-unset": Rule("fail", "load", "virtio-fs without a daemon"),
    "asset.virtiofsd": Rule("fail", "start", "the shim does not look whether virtio_fs_daemon exists"),
    "asset.placeholder": Rule("warn", "load", "a shipped path that somebody must fill in"),
    "late.rootfs-type": Rule("fail", "start", "a file system that the guest's root cannot have"),
    "late.verity-params": Rule("fail", "start", "all five fields or none"),
    "late.machine-type": Rule("fail", "start", "a machine that this architecture's QEMU does not have"),
    "late.no-tee": Rule("fail", "start", "confidential_guest on a host without the TEE"),
    "late.vcpus": Rule("fail", "start", "fewer vCPUs at most than at the start"),
    "late.vhost-user": Rule("fail", "start", "vhost-user storage needs huge pages"),
    "late.snp-id": Rule("fail", "start", "SNP's ID block and its authentication go together", since=(3, 3)),
    "late.firmware-volume": Rule("fail", "start", "TDX's firmware takes no volume", since=(3, 3)),
    "late.ports": Rule("fail", "start", "more devices than the 16 ports that Kata makes"),
    "late.hot-ports": Rule("fail", "start", "fewer ports than devices that are plugged in later"),
    "late.microvm": Rule("fail", "start", "QEMU's microvm has no TEE"),
    "late.viommu": Rule("fail", "start", "there is no virtual IOMMU on arm64"),
    "late.pflash": Rule("fail", "start", "arm64 takes two flash images or none"),
    "late.io-space": Rule("warn", "start", "root ports take 4 KiB each of the 64 KiB of I/O space that bridges share"),
    "silent.memory": Rule("warn", "silent", "below 256 MiB the runtime takes 2048"),
    "silent.memory-most": Rule("warn", "silent", "more memory than default_maxmemory is cut to it"),
    "silent.vcpus": Rule("warn", "silent", "more vCPUs than the host has, or less than none, become what it has"),
    "silent.vcpus-most": Rule("warn", "silent", "more vCPUs at most than the host or KVM has are cut"),
    "silent.ports": Rule("warn", "silent", "more than 16 root or switch ports are cut"),
    "silent.bridges": Rule("warn", "silent", "bridges are 1 to 5"),
    "silent.loglevel": Rule("warn", "silent", "hypervisor_loglevel is at most 3"),
    "silent.slots": Rule("warn", "silent", "memory_slots is kept in 8 bits"),
    "silent.negative": Rule("warn", "silent", "a number below 0 becomes a huge one"),
    "silent.root-port": Rule("warn", "silent", "pcie_root_port is ignored while no device is plugged by root port"),
    "silent.iothreads": Rule("note", "silent", "enable_iothreads does nothing without virtio-scsi"),
    "silent.verity": Rule("warn", "silent", "kernel_verity_params do nothing with an initrd"),
    "silent.monitor": Rule("note", "silent", "extra_monitor_socket does nothing without enable_debug"),
    "host.memory": Rule("fail", "start", "more memory than the host has"),
    "vfio.both": Rule("fail", "load", "cold_plug_vfio and hot_plug_vfio exclude each other"),
    "vfio.no-port": Rule("fail", "guest", "a GPU was asked for, and no device is plugged"),
    "vfio.hot-plug": Rule("warn", "guest", "a confidential guest takes GPUs by cold plug only"),
    "vfio.hook": Rule("warn", "guest", "nothing would give the GPU to the container inside the guest"),
    "vfio.cgroup": Rule("warn", "guest", "GPUs in a confidential guest want sandbox_cgroup_only"),
    "tee.not-confidential": Rule("fail", "guest", "a TEE was asked for, and the file makes an ordinary VM"),
    "tee.other": Rule("fail", "guest", "the file makes another TEE than was asked for"),
    "tee.combination": Rule("fail", "guest", "the release does not know this TEE"),
    "tee.silent-vm": Rule("fail", "silent", "a stock shim on arm64 ignores confidential_guest"),
    "tee.firmware": Rule("fail", "start", "SNP and TDX measure the guest's firmware, so one must be named"),
    "tee.static": Rule("warn", "guest", "a confidential guest cannot grow: static_sandbox_resource_mgmt"),
    "tee.hotplug": Rule("warn", "guest", "memory cannot be plugged into a confidential guest"),
    "silent.template": Rule("warn", "silent", "no template is made where memory is shared with virtio-fs"),
    "silent.snp": Rule("warn", "silent", "sev_snp_guest does nothing without confidential_guest"),
    "tee.template": Rule("warn", "guest", "a confidential guest cannot be cloned from a template"),
    "tee.virtcca-params": Rule("fail", "guest", "the patched 3.15 shim adds no virtcca_cvm_guest=1 of its own"),
    "tee.virtcca-repeated": Rule("warn", "guest", "the patched CC-0.8.0 shim adds the guest's parameters itself"),
    "params.length": Rule("warn", "silent", "the kernel cuts its command line at 2048 bytes without a word"),
    "params.control": Rule("warn", "silent", "a control character in kernel_params: the runtime splits at blanks"),
    "params.repeated": Rule("warn", "guest", "one parameter with two values; most of the kernel takes the last"),
    "timeout.dial": Rule("warn", "guest", "shorter than a guest of this size may take"),
    "launch.pod-resources": Rule("warn", "guest", "outside Kubernetes pod_resource_api_sock must be empty"),
    "launch.selinux": Rule("fail", "start", "SELinux in the guest: on a host without it no container starts"),
    "launch.seccomp": Rule("warn", "start", "the guest's agent must have been built with seccomp"),
    "runtime-rs.go-key": Rule("warn", "silent", "Kata's Rust runtime does not read this key of the Go runtime"),
    "runtime-rs.go-value": Rule("warn", "load", "a value that Kata's Rust runtime calls otherwise"),
    "runtime-rs.swap": Rule("fail", "load", "Kata's Rust runtime has no swap in a guest of QEMU"),
    "runtime-rs.unknown": Rule("warn", "silent", "nearly a key of Kata's Rust runtime"),
    "security.debug-console": Rule("warn", "guest", "a shell in the guest for whoever has the host"),
    "security.debug-params": Rule("warn", "guest", "the guest's command line opens a shell or a debug mode"),
    "security.devtools": Rule("warn", "guest", "the GPU's devtools mode protects nothing"),
    "security.shared-fs": Rule("warn", "guest", "the container's root file system comes from the untrusted host"),
    "security.annotations": Rule("warn", "guest", "whoever creates a pod may change the VM"),
    "security.measured-root": Rule("warn", "guest", "nothing measures the guest's root file system"),
    "security.memory-dump": Rule("warn", "guest", "the guest's memory is written to the host when it panics"),
    "security.monitor": Rule("warn", "guest", "a further QEMU monitor is open"),
    "security.debug-log": Rule("note", "guest", "the guest's console and the agent's log go to the host"),
    "security.password": Rule("warn", "guest", "a secret in a file that many can read"),
    "security.snp-policy": Rule("warn", "guest", "SNP's policy lets the host debug the guest, and so read it"),
}
