"""What a confidential guest and its GPUs need, and what would quietly be something else."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, Level
from vmtool.kata.lint.target import AGENT, CCA, FACTORY, QEMU, RUNTIME, SECURE_EXECUTION, LintTarget
from vmtool.qemu.timeouts import dial_seconds
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE
from vmtool.tee.virtcca import GUEST_WORD, VIRTCCA

SELINUX = "/sys/fs/selinux"
# Seconds that the shim waits for the agent when nothing says how long.
UNSET_TIMEOUT = 30


def guest_findings(target: LintTarget) -> Iterator[Finding]:
    """TEE first, devices after it."""
    yield from _request(target)
    if target.confidential:
        yield from _guest(target)
        yield from _virtcca(target)
    yield from _devices(target)
    yield from _timeout(target)
    yield from _agent(target)


def _request(target: LintTarget) -> Iterator[Finding]:
    asked, made, release = target.asked, target.tee, target.release
    if asked not in (None, NONE) and made == NONE:
        yield target.finding("tee.not-confidential", QEMU, "confidential_guest", f"{asked} was asked for, but this "
                             "file starts an ordinary VM", "write confidential_guest = true")
    elif asked is not None and made != asked:
        hint = {SNP.name: "write sev_snp_guest = true next to confidential_guest = true",
                NONE: "write confidential_guest = false"}.get(asked, "correct machine_type and sev_snp_guest")
        yield target.finding("tee.other", QEMU, "sev_snp_guest", f"{asked} was asked for, but this file makes {made}",
                             hint)
    # Releases ship files for hardware that their shim of another architecture does not have.
    level: Level = "fail" if asked not in (None, NONE) or target.for_virtcca else "warn"
    if made == VIRTCCA.name and not release.virtcca:
        yield target.finding("tee.silent-vm", QEMU, "confidential_guest", f"a stock Kata {release.name} on arm64 "
                             "ignores confidential_guest and boots an ordinary VM",
                             "use the 3.15 or CC-0.8.0 shim with the virtCCA patch", level)
    elif made not in release.tees and made not in (CCA, SECURE_EXECUTION):
        yield target.finding("tee.combination", QEMU, "confidential_guest", f"Kata {release.name} has no {made}",
                             f"it has {', '.join(release.tees)}", level)


def _guest(target: LintTarget) -> Iterator[Finding]:
    if not target.flag(RUNTIME, "static_sandbox_resource_mgmt"):
        yield target.finding("tee.static", RUNTIME, "static_sandbox_resource_mgmt", "static_sandbox_resource_mgmt is "
                              "not true, so the runtime would try to add vCPUs and memory later",
                              "write static_sandbox_resource_mgmt = true")
    if target.flag(QEMU, "enable_virtio_mem"):
        yield target.finding("tee.hotplug", QEMU, "enable_virtio_mem", "enable_virtio_mem plugs memory, which "
                              "this guest cannot take", "write enable_virtio_mem = false")
    if target.flag(FACTORY, "enable_template"):
        yield target.finding("tee.template", FACTORY, "enable_template", "enable_template: all clones would share "
                              "one memory image", "write enable_template = false")
    table = target.document.section(QEMU)
    measured = target.text(QEMU, "kernel_verity_params") or target.text(QEMU, "initrd") or (
        "rootfs_verity" in target.text(QEMU, "kernel_params")) or target.tee == SECURE_EXECUTION
    if table and not measured:
        hint = "give kernel_verity_params" if target.release.verity else (
            "put the root hash into kernel_params and a measuring initramfs")
        yield target.finding("security.measured-root", QEMU, "image", "neither dm-verity nor an initrd: the host can "
                              "change the guest's programs unseen", hint)


def _virtcca(target: LintTarget) -> Iterator[Finding]:
    if target.tee != VIRTCCA.name or not target.release.virtcca:
        return
    there = GUEST_WORD in target.text(QEMU, "kernel_params").split()
    if target.release.root == "vda" and there:
        yield target.finding("tee.virtcca-repeated", QEMU, "kernel_params", f"{GUEST_WORD} is built in already",
                              f"remove {GUEST_WORD} and swiotlb=")
    elif target.release.root != "vda" and not there:
        yield target.finding("tee.virtcca-params", QEMU, "kernel_params", f"{GUEST_WORD} is missing",
                              f"write kernel_params = \"{GUEST_WORD} swiotlb=131072,force\"",
                             "fail" if target.for_virtcca else "warn")


def _devices(target: LintTarget) -> Iterator[Finding]:
    hot, plugged = target.text(QEMU, "hot_plug_vfio"), target.ports
    if target.gpus and not plugged:
        yield target.finding("vfio.no-port", QEMU, "cold_plug_vfio", f"{target.gpus} GPU(s) were asked for, but no "
                              "device is plugged", 'write cold_plug_vfio = "root-port"')
    if not plugged:
        return
    if target.confidential and hot not in ("", "no-port"):
        yield target.finding("vfio.hot-plug", QEMU, "hot_plug_vfio", f"hot_plug_vfio = {hot!r}: a device that comes "
                              "after the start was not measured",
                              'write cold_plug_vfio = "root-port" and hot_plug_vfio = "no-port"')
    if target.confidential and not target.flag(RUNTIME, "sandbox_cgroup_only"):
        yield target.finding("vfio.cgroup", RUNTIME, "sandbox_cgroup_only", "sandbox_cgroup_only is not true",
                              "write sandbox_cgroup_only = true")
    if target.release.injection == "hook" and not target.text(QEMU, "guest_hook_path"):
        yield target.finding("vfio.hook", QEMU, "guest_hook_path", f"Kata {target.release.name} injects no GPU by "
                              "CDI, and guest_hook_path is empty", 'write guest_hook_path = "/usr/share/oci/hooks"')


def _timeout(target: LintTarget) -> Iterator[Finding]:
    given = target.number(AGENT, "dial_timeout") or UNSET_TIMEOUT
    gpus = target.gpus if target.gpus is not None else int(bool(target.ports))
    wanted = dial_seconds(target.memory, target.number(QEMU, "default_vcpus", 1), gpus, target.confidential)
    # A small ordinary guest is up in a second or two, and the release's own 45 s are plenty.
    if given < wanted and (target.confidential or gpus or target.memory > 32 << 10):
        yield target.finding("timeout.dial", AGENT, "dial_timeout", f"dial_timeout = {given} (s); a guest with "
                              f"{target.memory} MiB{f' and {gpus} GPU(s)' if gpus else ''} may take {wanted} s",
                              f"write dial_timeout = {wanted}")


def _agent(target: LintTarget) -> Iterator[Finding]:
    """Go's default of both is false; every release ships true, since neither is there unless somebody built it in."""
    exists = target.host.exists
    selinux = exists is not None and exists(SELINUX)
    if target.document.section(QEMU) and not target.flag(QEMU, "disable_guest_selinux") and not selinux:
        yield target.finding("launch.selinux", QEMU, "disable_guest_selinux", "disable_guest_selinux is not true, and "
                             "on a host without SELinux no container starts", "write disable_guest_selinux = true")
    if target.document.section(RUNTIME) and not target.flag(RUNTIME, "disable_guest_seccomp"):
        yield target.finding("launch.seccomp", RUNTIME, "disable_guest_seccomp", "disable_guest_seccomp is not true: "
                             "where the guest's agent has no seccomp, no container starts",
                             "write disable_guest_seccomp = true")
