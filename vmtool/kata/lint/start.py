"""What the runtime refuses only when it makes the VM (virtcontainers: hypervisor.go, qemu.go, qemu_*.go), or QEMU."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.architecture import AMD64, ARM64
from vmtool.findings import Finding
from vmtool.kata.lint.load import SHARING
from vmtool.kata.lint.target import QEMU, SECURE_EXECUTION, LintTarget
from vmtool.spec.verity_params import verity_problem
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE
from vmtool.tee.tdx import TDX

MACHINES = ("q35", "microvm", "virt", "pseries", "s390-ccw-virtio")
# Of those, what the runtime of an architecture takes. The x86 one took virt as well in its early releases.
BY_ARCHITECTURE = {AMD64.machine: (AMD64.board, "microvm"), ARM64.machine: (ARM64.board,)}
ROOTFS = ("ext4", "xfs", "erofs")
MAX_PORTS = 16
VIRT_ON_X86_BEFORE = (3, 3)


def start_findings(target: LintTarget) -> Iterator[Finding]:
    """All of them."""
    yield from _root(target)
    yield from _machine(target)
    yield from _size(target)
    yield from _devices(target)
    yield from _confidential(target)
    yield from _host(target)


def _root(target: LintTarget) -> Iterator[Finding]:
    image, initrd = target.text(QEMU, "image"), target.text(QEMU, "initrd")
    none = target.tee == SECURE_EXECUTION
    if (bool(image) == bool(initrd) and not (none and not image)) or (none and (image or initrd)):
        wanted = "none of them, for Secure Execution" if none else "exactly one of them"
        yield target.finding("asset.root", QEMU, "initrd" if image and initrd else "image", "image and initrd are "
                             f"{'both' if image and initrd else 'set' if none else 'neither'}"
                             f"{'' if none else ' set'}", f"set {wanted}")
    kind, verity = target.text(QEMU, "rootfs_type"), target.text(QEMU, "kernel_verity_params")
    if image and kind and kind not in ROOTFS:
        yield target.finding("late.rootfs-type", QEMU, "rootfs_type", f"rootfs_type = {kind[:40]!r} is none of "
                             f"{', '.join(ROOTFS)}", "write rootfs_type = \"ext4\"")
    problem = verity_problem(verity)
    if image and problem and target.release.verity:
        yield target.finding("late.verity-params", QEMU, "kernel_verity_params", problem,
                             "root_hash=...,salt=...,data_blocks=...,data_block_size=4096,hash_block_size=4096")


def _machine(target: LintTarget) -> Iterator[Finding]:
    machine, arch = target.machine, target.architecture
    known = BY_ARCHITECTURE.get(arch, MACHINES)
    if arch == AMD64.machine and target.release.version < VIRT_ON_X86_BEFORE:
        known = (*known, "virt")
    if machine and machine not in known and not target.unfinished:
        yield target.finding("late.machine-type", QEMU, "machine_type", f"machine_type = {machine[:40]!r} is none of "
                             f"{', '.join(known)}{f', which Kata takes on {arch}' if arch in BY_ARCHITECTURE else ''}",
                             f"write machine_type = \"{known[0]}\"")
    if machine == "microvm" and target.confidential:
        yield target.finding("late.microvm", QEMU, "machine_type", "microvm has no TEE", 'write machine_type = "q35"')
    on_arm = arch == ARM64.machine or (not arch and machine == "virt")
    if on_arm and target.flag(QEMU, "enable_iommu"):
        yield target.finding("late.viommu", QEMU, "enable_iommu", "enable_iommu: Kata makes no virtual IOMMU on arm64",
                             "write enable_iommu = false")
    if on_arm and len(target.words(QEMU, "pflashes")) not in (0, 2):
        yield target.finding("late.pflash", QEMU, "pflashes", f"{len(target.words(QEMU, 'pflashes'))} flash images, "
                             "but arm64 takes two or none", "write pflashes = []")


def _size(target: LintTarget) -> Iterator[Finding]:
    vcpus = target.number(QEMU, "default_vcpus", 1) or 1
    most = target.number(QEMU, "default_maxvcpus")
    if vcpus > 0 and 0 < most < vcpus:
        yield target.finding("late.vcpus", QEMU, "default_maxvcpus", f"default_maxvcpus = {most} is less than "
                             f"default_vcpus = {vcpus}", f"write default_maxvcpus = {vcpus}")
    if target.flag(QEMU, "enable_vhost_user_store") and not target.flag(QEMU, "enable_hugepages"):
        yield target.finding("late.vhost-user", QEMU, "enable_vhost_user_store", "enable_vhost_user_store without "
                             "enable_hugepages", "write enable_hugepages = true, or enable_vhost_user_store = false")


def _devices(target: LintTarget) -> Iterator[Finding]:
    gpus, hot = target.gpus or 0, target.text(QEMU, "hot_plug_vfio")
    # On machine virt the network's device takes a port too.
    needed = gpus + (1 if gpus and target.machine == "virt" else 0)
    if needed > MAX_PORTS and target.ports:
        yield target.finding("late.ports", QEMU, "cold_plug_vfio", f"{needed} ports are needed, but Kata makes "
                             f"{MAX_PORTS}", "pass fewer devices")
    ports = target.number(QEMU, "pcie_root_port")
    if ports >= MAX_PORTS and "root-port" in target.ports:
        yield target.finding("late.io-space", QEMU, "pcie_root_port", f"{MAX_PORTS} root ports take all of the I/O "
                             "space, and default_bridges' bridge gets none", f"write {MAX_PORTS - 1} or less")
    kind = {"root-port": "pcie_root_port", "switch-port": "pcie_switch_port"}.get(hot)
    if gpus and kind and target.release.knows(QEMU, kind) and target.number(QEMU, kind) < needed:
        yield target.finding("late.hot-ports", QEMU, kind, f"{kind} = {target.number(QEMU, kind)}, but {needed} "
                             "are needed for devices that come after the start", f"write {kind} = {needed}")


def _confidential(target: LintTarget) -> Iterator[Finding]:
    block, auth = target.text(QEMU, "snp_id_block"), target.text(QEMU, "snp_id_auth")
    if target.tee == SNP.name and bool(block) != bool(auth):
        there, lacking = ("snp_id_block", "snp_id_auth") if block else ("snp_id_auth", "snp_id_block")
        yield target.finding("late.snp-id", QEMU, there, f"{there} without {lacking}", f"set {lacking}, or remove it")
    if target.tee == TDX.name and target.text(QEMU, "firmware_volume") and not target.unfinished:
        yield target.finding("late.firmware-volume", QEMU, "firmware_volume", "firmware_volume with TDX",
                             'write firmware_volume = ""')
    sure = target.tee in (SNP.name, TDX.name) or target.asked in (SNP.name, TDX.name)
    if sure and not target.text(QEMU, "firmware") and not target.unfinished and target.machine != "virt":
        yield target.finding("tee.firmware", QEMU, "firmware", f"{target.tee} without a firmware",
                             'name the build for it, such as firmware = "/opt/kata/share/ovmf/AMDSEV.fd"')


def _host(target: LintTarget) -> Iterator[Finding]:
    host, made = target.host, target.tee
    if host.tee and made != NONE and host.tee.get(made) is False:
        yield target.finding("late.no-tee", QEMU, "confidential_guest", f"this host has no {made}",
                             f"vmtool doctor --for kata --tee {made}")
    if host.memory is not None and target.memory > host.memory:
        yield target.finding("host.memory", QEMU, "default_memory", f"{target.memory} MiB, but this host has "
                             f"{host.memory} MiB", "ask for less")
    daemon, share = target.text(QEMU, "virtio_fs_daemon"), target.text(QEMU, "shared_fs") or "virtio-fs"
    if host.exists and share in SHARING and daemon and not host.exists(daemon):
        yield target.finding("asset.virtiofsd", QEMU, "virtio_fs_daemon", f"virtio_fs_daemon is {daemon}, which is not "
                             "there", "install virtiofsd, or correct the path")
