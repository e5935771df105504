"""What a launch by libvirt must know beside the host: the guest image, its kernel, and what makes its initramfs."""

from __future__ import annotations

from pathlib import Path

from vmtool.architecture import BY_DEBIAN, BY_MACHINE
from vmtool.cache import Cache
from vmtool.debian.tools import Tools, read_tools, tools_dir
from vmtool.errors import Refused, VmtoolError
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import KvmFacts
from vmtool.findings import Finding, from_error, host_lacks, lines, wrong_input
from vmtool.frozen import dataclass
from vmtool.libvirt.installed import HypervisorFacts, has_iommufd
from vmtool.machine import Reader
from vmtool.models.facts import ModelFacts
from vmtool.rootfs.boot.plan import BUSYBOX
from vmtool.rootfs.format.image_file import Extent, manifest_path, read_image
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, read_manifest
from vmtool.spec.libvirt import Libvirt
from vmtool.spec.runtime import Spec

TARGET = "multi-user.target"
OWN_BUSYBOX = "/bin/busybox"
SWTPM = ("swtpm", "swtpm_setup")
SNP_VENDOR = "AuthenticAMD"


@dataclass(frozen=True)
class GuestImage:
    """An image that can be booted.

    Args:
        rootfs: where its root file system lies.
        partition: of the disk, "" or "1".
        target: systemd's target that it boots to.
        kernel: its file.
        verity: what its manifest says of dm-verity; None when it has no hashes.
    """

    path: Path
    rootfs: Extent
    partition: str
    target: str
    kernel: Path
    verity: VerityPart | None = None


@dataclass(frozen=True)
class DomainFacts:
    """What is there.

    Args:
        image: None when there is none that can be booted; a finding says why.
        architecture: of the guest, x86_64 or aarch64.
        emulator: the QEMU; empty when there is none.
        accelerated: whether KVM runs guests of this architecture here.
        system: whether the system's libvirt is there.
        libvirt: its version; None when unknown.
        busybox: a static one of the guest's architecture; None when there is none.
        dmsetup: the program, for a guest of this host's architecture, and veritysetup are there; empty when not.
        model_size: bytes.
        iommufd: whether devices can go to the guest by iommufd: this kernel, QEMU and libvirt have it.
        swtpm: whether swtpm is there, and what makes it ready.
        qemu_version: of the emulator; empty when unknown.
        signature: family, model and stepping of the processors that a guest gets; None where this host's are not those
            of its TEE.
        findings: what of this is missing, and whether input or host is at fault.
    """

    image: GuestImage | None
    architecture: str
    emulator: str
    accelerated: bool
    system: bool
    libvirt: str | None
    busybox: Path | None
    tools: Tools
    model_size: int
    dmsetup: str = ""
    iommufd: bool = False
    swtpm: bool = False
    signature: tuple[int, int, int] | None = None
    qemu_version: str = ""
    findings: tuple[Finding, ...] = ()

    def known(self) -> GuestImage:
        """The image.

        Raises:
            Refused: there is none.
        """
        if self.image is None:
            raise Refused("there is no guest image to boot", details=lines(self.findings))
        return self.image


def read_domain(reader: Reader, spec: Spec, model: ModelFacts | None, cpu: CpuFacts, kvm: KvmFacts,
                hypervisor: HypervisorFacts) -> DomainFacts:
    """Look at the image that the spec names and at the tools for it."""
    cache = Cache.at()
    findings: list[Finding] = []
    image, manifest = _image(reader, spec.spec.runtime.libvirt, findings)
    machine = BY_DEBIAN[manifest.architecture].machine if manifest else cpu.arch
    wanted = spec.spec.runtime.libvirt
    for key, path in (("firmware", wanted.firmware), ("device_tree", wanted.device_tree)):
        if path and not reader.exists(str(path)):
            findings.append(wrong_input(f"libvirt.{key.replace('_', '-')}.absent", f"{path}: no such file",
                                        place=f"spec.runtime.libvirt.{key}"))
    own = machine == cpu.arch
    emulator = hypervisor.qemu if own else reader.which(f"qemu-system-{machine}")
    busybox, tools = _busybox(reader, cache, machine, own), _tools(reader, cache)
    if not emulator:
        findings.append(host_lacks("libvirt.qemu", f"qemu-system-{machine} is not installed, which runs the guest"))
    if not busybox:
        findings.append(host_lacks("libvirt.busybox", f"no static busybox for {machine}, which the guest's initramfs "
                                   "needs", "apt-get install busybox-static"))
    if not tools:
        findings.append(host_lacks("libvirt.debugfs", "debugfs is not installed, which reads the guest's modules",
                                   "apt-get install e2fsprogs"))
    return DomainFacts(image, machine, emulator or "", kvm.verdict == "runs" and own, hypervisor.socket,
                       hypervisor.libvirt_version, busybox, tools or Tools(None), model.size if model else 0,
                       (reader.which("dmsetup") or "") if own and reader.which("veritysetup") else "",
                       own and has_iommufd(reader, hypervisor),
                       all(map(reader.which, SWTPM)), cpu.signature if cpu.vendor == SNP_VENDOR else None,
                       (own and hypervisor.qemu_version) or "", tuple(findings))


def _image(reader: Reader, request: Libvirt, findings: list[Finding]) -> tuple[GuestImage | None, Manifest | None]:
    """The image and what it promises; why it cannot be booted goes to `findings`."""
    place = "spec.runtime.libvirt.image"
    if request.image is None:
        findings.append(wrong_input("libvirt.image.unnamed", "name a guest image", "vmtool rootfs build", place))
        return None, None
    try:
        file = read_image(request.image)
        manifest_file = manifest_path(request.image)
        manifest = read_manifest(manifest_file) if reader.exists(str(manifest_file)) else None
    except VmtoolError as error:
        findings.append(from_error("libvirt.image.unreadable", error, place))
        return None, None
    kernel = request.kernel or request.image.with_name(f"{request.image.name}.vmlinuz")
    if request.boot == "kernel" and not reader.exists(str(kernel)):
        findings.append(wrong_input("libvirt.kernel.absent",
                                    f"{kernel}: no such file, and an image has no kernel in it",
                                    "name it as spec.runtime.libvirt.kernel"))
    if file.problem or not file.rootfs:
        findings.append(wrong_input("libvirt.image.unsound", f"{request.image}: {file.problem}", place=place))
        return None, manifest
    target = manifest.promises.target if manifest else ""
    verity = manifest.verity if manifest and file.hashes else None
    return GuestImage(request.image.absolute(), file.rootfs, "" if file.kind == "bare" else "1", target or TARGET,
                      kernel.absolute(), verity), manifest


def _tools(reader: Reader, cache: Cache) -> Tools | None:
    try:
        return read_tools(reader, cache, "debugfs")
    except VmtoolError:
        return None


def _busybox(reader: Reader, cache: Cache, machine: str, own: bool) -> Path | None:
    """The one that was unpacked for `rootfs boot`, else the host's own when it needs no libraries."""
    known = BY_MACHINE.get(machine)
    unpacked = tools_dir(cache, BUSYBOX, known.debian) / "usr/bin/busybox" if known else Path()
    if reader.exists(str(unpacked)) and unpacked.name:
        return unpacked
    dynamic = reader.run(("ldd", OWN_BUSYBOX)) if own and reader.exists(OWN_BUSYBOX) else None
    return Path(OWN_BUSYBOX) if dynamic and "not a dynamic executable" in dynamic.out + dynamic.err else None
