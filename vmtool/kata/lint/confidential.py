"""What a confidential guest and its GPUs need, and what would quietly be something else."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding
from vmtool.kata.lint.rules import AGENT, FACTORY, QEMU, RUNTIME, Subject
from vmtool.qemu.timeouts import dial_seconds
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE, tee_of
from vmtool.tee.virtcca import GUEST_WORD, VIRTCCA


def confidential_findings(subject: Subject) -> Iterator[Finding]:
    """TEE first, devices after it."""
    yield from _wish(subject)
    if subject.confidential:
        yield from _guest(subject)
        yield from _virtcca(subject)
    yield from _devices(subject)
    yield from _timeout(subject)


def _wish(subject: Subject) -> Iterator[Finding]:
    asked, made, release = subject.asked, subject.tee, subject.release
    if asked not in (None, NONE) and made == NONE:
        yield subject.finding("tee.not-confidential", QEMU, "confidential_guest", f"{asked} was asked for, but this "
                              "file starts an ordinary VM", "write confidential_guest = true")
    elif asked is not None and made != asked:
        hint = {SNP.name: "write sev_snp_guest = true beside confidential_guest = true",
                NONE: "write confidential_guest = false"}.get(asked, "correct machine_type and sev_snp_guest")
        yield subject.finding("tee.other", QEMU, "sev_snp_guest", f"{asked} was asked for, but this file makes {made}",
                              hint)
    if made == VIRTCCA.name and not release.virtcca:
        yield subject.finding("tee.silent-vm", QEMU, "confidential_guest", f"a stock Kata {release.name} on arm64 "
                              "ignores confidential_guest and boots an ordinary VM",
                              "use the 3.15 or CC-0.8.0 shim with the virtCCA patch")
    elif made not in release.tees:
        yield subject.finding("tee.combination", QEMU, "confidential_guest", f"Kata {release.name} has no {made}",
                              f"it has {', '.join(release.tees)}")
    if subject.host.tee and made != NONE and subject.host.tee.get(made) is False:
        yield subject.finding("late.no-tee", QEMU, "confidential_guest", f"this host has no {made}",
                              f"vmtool doctor --for kata --tee {made}")


def _guest(subject: Subject) -> Iterator[Finding]:
    tee = subject.tee if subject.tee != NONE else subject.asked
    known = tee_of(tee or NONE)
    if known and known.measures_firmware and not subject.text(QEMU, "firmware"):
        yield subject.finding("tee.firmware", QEMU, "firmware", f"{tee} without a firmware",
                              'name the build for it, such as firmware = "/opt/kata/share/ovmf/AMDSEV.fd"')
    if not subject.flag(RUNTIME, "static_sandbox_resource_mgmt"):
        yield subject.finding("tee.static", RUNTIME, "static_sandbox_resource_mgmt", "static_sandbox_resource_mgmt is "
                              "not true, so the runtime would try to add vCPUs and memory later",
                              "write static_sandbox_resource_mgmt = true")
    if subject.flag(QEMU, "enable_virtio_mem"):
        yield subject.finding("tee.hotplug", QEMU, "enable_virtio_mem", "enable_virtio_mem plugs memory, which "
                              "this guest cannot take", "write enable_virtio_mem = false")
    if subject.flag(FACTORY, "enable_template"):
        yield subject.finding("tee.template", FACTORY, "enable_template", "enable_template: all clones would share "
                              "one memory image", "write enable_template = false")
    table = subject.document.section(QEMU)
    measured = subject.text(QEMU, "kernel_verity_params") or subject.text(QEMU, "initrd") or (
        "rootfs_verity" in subject.text(QEMU, "kernel_params"))
    if table and not measured:
        hint = "give kernel_verity_params" if subject.release.verity else (
            "put the root hash into kernel_params and a measuring initramfs")
        yield subject.finding("security.measured-root", QEMU, "image", "neither dm-verity nor an initrd: the host can "
                              "change the guest's programs unseen", hint)


def _virtcca(subject: Subject) -> Iterator[Finding]:
    if subject.tee != VIRTCCA.name or not subject.release.virtcca:
        return
    there = GUEST_WORD in subject.text(QEMU, "kernel_params").split()
    if subject.release.root == "vda" and there:
        yield subject.finding("tee.virtcca-repeated", QEMU, "kernel_params", f"{GUEST_WORD} is built in already",
                              f"remove {GUEST_WORD} and swiotlb=")
    elif subject.release.root != "vda" and not there:
        yield subject.finding("tee.virtcca-params", QEMU, "kernel_params", f"{GUEST_WORD} is missing",
                              f"write kernel_params = \"{GUEST_WORD} swiotlb=131072,force\"")


def _devices(subject: Subject) -> Iterator[Finding]:
    cold, hot = (subject.text(QEMU, f"{how}_plug_vfio") for how in ("cold", "hot"))
    plugged = [port for port in (cold, hot) if port not in ("", "no-port")]
    if len(plugged) == 2:
        yield subject.finding("vfio.both", QEMU, "hot_plug_vfio", "cold_plug_vfio and hot_plug_vfio are both set",
                              'write hot_plug_vfio = "no-port"')
    if subject.gpus and not plugged:
        yield subject.finding("vfio.no-port", QEMU, "cold_plug_vfio", f"{subject.gpus} GPU(s) were asked for, but no "
                              "device is plugged", 'write cold_plug_vfio = "root-port"')
    if not plugged:
        return
    if subject.confidential and hot not in ("", "no-port"):
        yield subject.finding("vfio.hot-plug", QEMU, "hot_plug_vfio", f"hot_plug_vfio = {hot!r}: a device that comes "
                              "after the start was not measured",
                              'write cold_plug_vfio = "root-port" and hot_plug_vfio = "no-port"')
    if subject.confidential and not subject.flag(RUNTIME, "sandbox_cgroup_only"):
        yield subject.finding("vfio.cgroup", RUNTIME, "sandbox_cgroup_only", "sandbox_cgroup_only is not true",
                              "write sandbox_cgroup_only = true")
    if subject.release.injection == "hook" and not subject.text(QEMU, "guest_hook_path"):
        yield subject.finding("vfio.hook", QEMU, "guest_hook_path", f"Kata {subject.release.name} injects no GPU by "
                              "CDI, and guest_hook_path is empty", 'write guest_hook_path = "/usr/share/oci/hooks"')


def _timeout(subject: Subject) -> Iterator[Finding]:
    if subject.release.keys == "CC-0.8.0" or not subject.document.section(AGENT):
        return
    given = subject.number(AGENT, "dial_timeout", 45)
    gpus = subject.gpus if subject.gpus is not None else int(subject.with_gpus)
    wanted = dial_seconds(subject.memory, subject.number(QEMU, "default_vcpus", 1), gpus, subject.confidential)
    # A small ordinary guest is up in a second or two, and the release's own 45 s are plenty.
    if given < wanted and (subject.confidential or gpus or subject.memory > 32 << 10):
        yield subject.finding("timeout.dial", AGENT, "dial_timeout", f"dial_timeout = {given} (s); a guest with "
                              f"{subject.memory} MiB{f' and {gpus} GPU(s)' if gpus else ''} may take {wanted} s",
                              f"write dial_timeout = {wanted}")
