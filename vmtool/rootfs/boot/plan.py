"""Booting an image under QEMU, and what the guest must then say. The image itself is not changed.

What the probe needs comes in an initramfs and lies in the guest's /run; what the guest writes goes to a temporary file
of QEMU's that has no name. A line of the report has a mark, which nothing else on the console has.
"""

from __future__ import annotations

from pathlib import Path

from vmtool import plan as p
from vmtool.architecture import AMD64, BY_DEBIAN, BY_MACHINE
from vmtool.debian.tools import Tools
from vmtool.frozen import dataclass
from vmtool.rootfs.actions import RunGuest
from vmtool.rootfs.boot.check import AGENT, MARK
from vmtool.rootfs.boot.workers import append_initramfs, make_initramfs
from vmtool.rootfs.format.image_file import ImageFile
from vmtool.rootfs.inspect.tree import READERS
from vmtool.rootfs.metadata.manifest import Promises
from vmtool.rootfs.recipe.overlay import render

BUSYBOX = ("busybox-static",)
MEMORY = 768


@dataclass(frozen=True)
class Boot:
    """What is booted.

    Args:
        kernel: file; `architecture` amd64 or arm64.
        promises: what must be found.
        qemu: QEMU's program of the host's; empty to run the one in `qemu_tree`.
        busybox: a static one of the guest's architecture.
        kvm: whether KVM runs guests here at the processor's speed.
        directory: for the initramfs, and the console's log.
    """

    image: ImageFile
    kernel: Path
    architecture: str
    promises: Promises
    qemu: str
    qemu_tree: Path
    busybox: Path
    kvm: bool
    directory: Path
    machine: str = AMD64.machine

    @property
    def whole(self) -> bool:
        """Whether the image is an initrd, which has no disk."""
        return self.image.kind == "initrd"

    @property
    def memory(self) -> int:
        """MiB. An initrd lies in it packed and unpacked, and its file system may take half of it."""
        return MEMORY + (8 * (self.image.size >> 20) if self.whole else 0)

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def target(self) -> str:
        return self.promises.target or "multi-user.target"


def plan_boot(boot: Boot, tools: Tools, preparation: tuple[p.Step, ...], seconds: float) -> p.Plan:
    """Make the initramfs, run the guest to its end.

    Args:
        preparation: steps that unpack what is needed.
        seconds: until the guest is ended.
    """
    scratch, rootfs = boot.directory / "boot", boot.image.rootfs
    holds = rootfs.holds if rootfs else ""
    device = "/dev/vda" if boot.image.kind == "bare" else "/dev/vda1"
    units = (boot.target, *boot.promises.units, *([AGENT] if boot.promises.agent else []))
    texts = {
        "init": render("boot-init-whole" if boot.whole else "boot-init", mark=MARK, device=device, filesystem=holds,
                       target=boot.target, access="ro" if holds == "erofs" or boot.image.hashes or
                       boot.promises.agent else "rw"),
        "probe.sh": render("boot-probe.sh", mark=MARK, units=units, hook=boot.promises.hook,
                           modules=boot.promises.modules),
        "vmtool-probe.service": render("boot-probe.service", target=boot.target)}
    initrd = scratch / "initrd"
    make = append_initramfs.Order(boot.image.path, boot.busybox, scratch, initrd) if boot.whole else (
        make_initramfs.Order(boot.image.path, holds, rootfs.start if rootfs else 0, boot.busybox, scratch, initrd,
                             tools.argv(READERS.get(holds, READERS["erofs"]))))
    return p.Plan(f"boot of {boot.image.path.name}", boot.directory, (
        *preparation,
        p.Step("make the probe's initramfs", (
            p.Remove(scratch), p.Remove(boot.console), p.MakeDir(scratch),
            *(p.WriteFile(scratch / name, text) for name, text in texts.items()),
            p.run_worker(make, deadline=300),
        ), undo=(p.Remove(scratch),), waits_only=True),
        p.Step(f"boot the guest ({'KVM' if boot.kvm else 'TCG'})", (
            RunGuest(qemu_argv(boot, initrd), env=_environment(boot, scratch), deadline=seconds),
            p.Remove(scratch)), undo=(p.Remove(scratch),), waits_only=True),
    ))


def qemu_argv(boot: Boot, initrd: Path) -> tuple[str, ...]:
    """QEMU's arguments; it ends when the guest does."""
    guest = BY_DEBIAN[boot.architecture]
    words = ["quiet", f"console={guest.console}", "panic=-1", "systemd.show_status=0", f"systemd.unit={boot.target}",
             *(["rdinit=/vmtool/init"] if boot.whole else [])]
    # A comma in a path is doubled for QEMU. snapshot: what is written goes to a nameless file in TMPDIR.
    disk = () if boot.whole else (
        "-drive", f"file={str(boot.image.path).replace(',', ',,')},format=raw,if=none,id=root,snapshot=on",
        "-device", "virtio-blk-pci,drive=root,romfile=")
    if boot.qemu:
        start: tuple[str, ...] = (boot.qemu,)
    else:
        host = BY_MACHINE[boot.machine]
        library = boot.qemu_tree / "usr/lib" / host.triplet
        start = (str(library / host.loader), "--library-path", str(library),
                 str(boot.qemu_tree / f"usr/bin/qemu-system-{guest.machine}"),
                 "-L", str(boot.qemu_tree / "usr/share/qemu"), "-L", str(boot.qemu_tree / "usr/share/seabios"))
    return (*start, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-M", guest.boot_board,
            "-accel", "kvm" if boot.kvm else "tcg,thread=multi",
            "-cpu", "host" if boot.kvm else guest.emulated_cpu,
            "-smp", "2", "-m", str(boot.memory), "-serial", f"file:{boot.console}", "-kernel", str(boot.kernel),
            "-initrd", str(initrd), "-append", " ".join(words), *disk)


def _environment(boot: Boot, scratch: Path) -> p.Pairs:
    modules = boot.qemu_tree / "usr/lib" / BY_MACHINE[boot.machine].triplet / "qemu"
    return (("TMPDIR", str(scratch)), *(() if boot.qemu else (("QEMU_MODULE_DIR", str(modules)),)))


