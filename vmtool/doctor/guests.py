"""Findings on what starts virtual machines: KVM, IOMMU, Kata, QEMU, libvirt."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.architecture import BY_MACHINE
from vmtool.doctor.host import HostFacts
from vmtool.findings import Finding, Handler, Level, finding
from vmtool.gpu.iommu import DMA_ENTRIES, PAGE, dma_entries_for, set_dma_entries
from vmtool.kata.shims import RUST, KataHandler, KataShim
from vmtool.tee.table import NONE, TeeName, tee_of
from vmtool.tee.virtcca import VIRTCCA


def guest_findings(facts: HostFacts, purpose: Handler, tee: TeeName) -> Iterator[Finding]:
    """What a guest needs from the host; a container under runc needs none of it."""
    if purpose == "runc":
        return
    yield _kvm(facts, purpose, tee)
    yield _iommu(facts, tee)
    if facts.iommu.groups:
        yield _vfio(facts)
        yield from _mappings(facts, tee)
    if any(word.startswith("pcie_acs_override") for word in facts.iommu.parameters):
        yield finding("iommu.acs", "isolation between devices", "warn",
                      "pcie_acs_override pretends isolation that the hardware does not give",
                      "remove pcie_acs_override from the kernel command line and reboot")
    yield from _kata(facts, tee) if purpose == "kata" else _libvirt(facts, tee)


def _kvm(facts: HostFacts, purpose: Handler, tee: TeeName) -> Finding:
    """libvirt can do without KVM, slowly (TCG); Kata and every TEE cannot."""
    kvm, title = facts.kvm, "KVM runs guests"
    detail = f"{kvm.verdict}: {'; '.join(kvm.evidence)}"
    if kvm.verdict == "not-checked":
        hint = "run as root: sudo vmtool doctor" if not facts.is_root else (
            "start a small guest by hand: qemu-system-" + facts.cpu.arch + " -accel kvm -nographic -kernel FILE")
        return finding("kvm.runs-guests", title, "not-checked", detail, hint)
    if kvm.verdict == "runs":
        return finding("kvm.runs-guests", title, "ok", detail)
    level: Level = "warn" if purpose == "libvirt" and tee == NONE else "fail"
    name, module = {"GenuineIntel": ("VT-x", "kvm_intel"), "AuthenticAMD": ("SVM", "kvm_amd")}.get(
        facts.cpu.vendor or "", ("virtualization", "kvm"))
    slow = "; without it guests run under TCG, many times slower" if level == "warn" else ""
    where = "use a bare machine, or turn on nested virtualization below" if facts.cpu.in_guest else (
        f"turn on {name} in the firmware, then: modprobe {module}")
    return finding("kvm.runs-guests", title, level, detail, where + slow)


def _iommu(facts: HostFacts, tee: TeeName) -> Finding:
    """SNP does not start and virtCCA is not specified without an IOMMU; elsewhere only GPUs need it."""
    iommu, title = facts.iommu, "IOMMU groups"
    reported = f" (command line: {' '.join(iommu.parameters)})" if iommu.parameters else ""
    if iommu.groups:
        units = f" of {', '.join(iommu.units[:4])}" if iommu.units else ""
        return finding("iommu.groups", title, "ok", f"{iommu.groups} groups{units}{reported}")
    known = tee_of(tee)
    return finding("iommu.groups", title, "fail" if known and known.needs_iommu else "warn",
                   f"none, so no GPU can be passed to a guest{reported}", iommu.enable)


def _vfio(facts: HostFacts) -> Finding:
    nodes = [path for path, exists in (("/dev/vfio/vfio", facts.iommu.vfio_group), ("/dev/iommu", facts.iommu.iommufd))
             if exists]
    return finding("iommu.vfio", "VFIO nodes", "ok" if nodes else "warn", " and ".join(nodes) or "neither is there yet",
                   "modprobe vfio-pci")


def _mappings(facts: HostFacts, name: TeeName) -> Iterator[Finding]:
    """What legacy VFIO allows a confidential guest with a GPU; the worst is one with all of this host's memory."""
    tee, allowed, memory = tee_of(name), facts.iommu.dma_entries, facts.memory.total
    if not (tee and tee.libvirt.private_memory and memory):
        return
    if allowed is None:
        yield finding("iommu.dma-entries", "VFIO mappings", "note", f"vfio_iommu_type1 is not loaded: {DMA_ENTRIES} of "
                      "4 KiB for a confidential guest, unless it is loaded with more",
                      set_dma_entries(dma_entries_for(memory), None))
        return
    enough = allowed >= dma_entries_for(memory)
    short = f": by legacy VFIO a guest in {name} with a GPU ends when it shares more than {allowed * PAGE >> 20} MiB"
    other = "; iommufd, which this host has, knows no such limit" if facts.iommu.iommufd else ""
    yield finding("iommu.dma-entries", "VFIO mappings", "ok" if enough else "warn",
                  f"dma_entry_limit {allowed}" + ("" if enough else short + other),
                  set_dma_entries(dma_entries_for(memory), allowed))


def _kata(facts: HostFacts, tee: TeeName) -> Iterator[Finding]:
    shims = facts.kata.shims
    usable = [shim for shim in shims if shim.on_path]
    reported = "; ".join(f"{shim.runtime} {shim.version or 'of unknown version'} ({shim.binary}"
                         f"{', runtime-rs' if shim.language == RUST else ''})" for shim in shims)
    yield finding("kata.shim", "Kata shims", "ok" if usable else "warn" if shims else "fail",
                  reported or "no containerd-shim-kata*-v2 found",
                  f"ln -s {shims[0].binary} /usr/local/bin/" if shims else
                  "unpack a kata-static release archive at / and link /opt/kata/bin/containerd-shim-kata-v2 "
                  "into /usr/local/bin")
    for shim in usable or shims[:1]:
        yield _config(shim)
        if shim.language == RUST:
            yield finding(f"kata.runtime-rs.{shim.runtime.split('.')[2]}", f"{shim.runtime} is runtime-rs", "warn",
                          "vmtool checks the Rust runtime's files and renders none yet, so it launches nothing by it",
                          f"ln -sf /opt/kata/bin/containerd-shim-kata-v2 {shim.binary}")
        if tee == VIRTCCA.name:
            yield _virtcca(shim)
    for handler in facts.kata.handlers:
        yield _handler(handler, shims)
    existing, built = facts.kvm.vhost_vsock, facts.kernel.config.get("VHOST_VSOCK") != "n"
    yield finding("kata.vsock", "vsock to the guest", "ok" if existing else "fail",
                  "/dev/vhost-vsock" if existing else "no /dev/vhost-vsock, without which Kata does not load",
                  "modprobe vhost_vsock" if built else "boot a kernel with CONFIG_VHOST_VSOCK")


def _config(shim: KataShim) -> Finding:
    """A warning at most: a launch can always name a file of its own."""
    config, name = shim.config, shim.runtime.split(".")[2]
    merged = f", with {', '.join(config.drop_ins)} merged in" if config.drop_ins else ""
    return finding("kata.config" if name == "kata" else f"kata.config.{name}", f"{shim.runtime} reads",
                   "warn" if config.problem else "ok", config.problem or f"{config.path} ({config.reason}){merged}",
                   "write /etc/kata-containers/configuration.toml, or name a file: ctr run --runtime-config-path FILE")


def _virtcca(shim: KataShim) -> Finding:
    name = VIRTCCA.qemu.object
    detail = {True: f"its program holds {name}", False: "a stock shim: it would boot an ordinary VM in silence",
              None: f"its program could not be searched for {name}"}[shim.knows_virtcca]
    level: Level = "not-checked" if shim.knows_virtcca is None else "ok" if shim.knows_virtcca else "fail"
    return finding(f"kata.virtcca.{shim.runtime.split('.')[2]}", f"{shim.runtime} knows virtCCA", level, detail,
                   f"grep -c {name} {shim.wraps or shim.binary}; build the shim with the virtCCA patch")


def _handler(handler: KataHandler, shims: tuple[KataShim, ...]) -> Finding:
    """Kubernetes and `ctr run` read different files when only containerd's configuration names one."""
    id, title = f"kata.handler.{handler.name}", f"containerd's handler {handler.name}"
    if handler.config is None:
        return finding(id, title, "warn", f"{handler.runtime} of {handler.source} leads to no shim that was found",
                       f"install the shim, or remove the handler from {handler.source}")
    if handler.config.problem:
        return finding(id, title, "warn", handler.config.problem, f"correct ConfigPath in {handler.source}")
    plain = next((shim.config.path for shim in shims if shim.runtime == handler.runtime and shim.on_path), None)
    differs = plain is not None and plain != handler.config.path
    return finding(id, title, "warn" if differs else "ok",
                   f"reads {handler.config.path} ({handler.config.reason})" + (
                       f", but `ctr run` and `kata-runtime check` read {plain}" if differs else ""),
                   f"give ctr the same file: --runtime-config-path {handler.config.path}")


def _libvirt(facts: HostFacts, tee: TeeName) -> Iterator[Finding]:
    found = facts.hypervisor
    known = BY_MACHINE.get(facts.cpu.arch)
    package = known.qemu if known else "qemu-system"
    yield finding("libvirt.qemu", "QEMU", "ok" if found.qemu else "fail",
                  f"{found.qemu} {found.qemu_version or 'of unknown version'}" if found.qemu
                  else f"no qemu-system-{facts.cpu.arch}", f"apt-get install {package}")
    yield finding("libvirt.installed", "libvirt", "ok" if found.virsh else "fail",
                  f"{found.virsh} {found.libvirt_version or 'of unknown version'}" if found.virsh else "no virsh",
                  "apt-get install libvirt-daemon-system libvirt-clients")
    if found.virsh:
        yield finding("libvirt.system", "qemu:///system", "ok" if found.socket else "warn",
                      "its socket is there" if found.socket else "no socket; qemu:///session and embed remain",
                      "systemctl enable --now libvirtd")
        if tee != NONE:
            yield finding("libvirt.launch-security", f"libvirt and QEMU know {tee}", "not-checked",
                          "not looked at: it takes a connection to the daemon",
                          "virsh domcapabilities | grep -A 12 launchSecurity")
