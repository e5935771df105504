"""`vmtool rootfs boot`: start the image as a guest, and hold what it says against what was promised."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vmtool.architecture import BY_DEBIAN, Architecture, architecture_of
from vmtool.cache import Cache
from vmtool.cli.apply_plan import show_or_apply
from vmtool.cli.numbers import Seconds
from vmtool.cli.output import print_json
from vmtool.debian.settings import apt_options, build_environment
from vmtool.debian.tools import Tools, plan_tools, read_unpacked, tools_dir
from vmtool.errors import NotReady, ProgramFailed, Refused, VerificationFailed, VmtoolError, shell_word
from vmtool.facts.cpu import read_cpu
from vmtool.facts.kvm import read_kvm
from vmtool.host.local import LocalMachine
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.rootfs.boot.check import check_report, read_report
from vmtool.rootfs.boot.plan import BUSYBOX, Boot, plan_boot
from vmtool.rootfs.commands.shared import IMAGE, find_manifest, work_dir
from vmtool.rootfs.format.image_file import ImageFile, read_image
from vmtool.rootfs.metadata.manifest import Manifest, Promises
from vmtool.rootfs.view import print_findings


@click.command()
@IMAGE
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--kernel", type=click.Path(path_type=Path), help="[IMAGE.vmlinuz]")
@click.option("--timeout", type=Seconds(0.1), default=300.0, show_default=True, metavar="S",
              help="Seconds for the guest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def boot_command(state: State, image: Path, manifest_file: Path | None, kernel: Path | None, timeout: float,
                 as_json: bool, dry_run: bool) -> None:
    """Boot IMAGE under QEMU, without changing it. Exit code 4 when something promised is missing."""
    image = image.resolve()
    boot_image(state, image, find_manifest(image, manifest_file), kernel, timeout, as_json, dry_run)


def boot_image(state: State, image: Path, manifest: Manifest | None, kernel: Path | None, timeout: float, as_json: bool,
               dry_run: bool) -> None:
    """Boot and report.

    Raises:
        VerificationFailed: something promised is missing.
    """
    machine, cache, own = LocalMachine(), Cache.at(), os.uname().machine
    guest = BY_DEBIAN[manifest.architecture] if manifest else architecture_of(own)
    directory = work_dir(state, image)
    boot = Boot(readable(image), kernel_of(image, kernel), guest.debian, manifest.promises if manifest else Promises(),
                machine.which(f"qemu-system-{guest.machine}") or "", tools_dir(cache, qemu_packages(guest)),
                tools_dir(cache, BUSYBOX, guest.debian) / "usr/bin/busybox",
                own == guest.machine and kvm_runs(machine), directory, own)

    def make() -> Plan:
        tools = Tools(tools_dir(cache), own)
        return plan_boot(boot, tools, preparation(machine, cache, boot, guest), timeout)

    trouble = ""
    try:
        show_or_apply(state, directory, f"vmtool rootfs boot {image.name}", make, dry_run)
    except NotReady:
        raise
    except VmtoolError as error:
        if not boot.console.exists():
            raise
        trouble = error.how if isinstance(error, ProgramFailed) and error.how else error.message
    if not dry_run:
        report(image, boot, trouble, as_json)


def readable(image: Path) -> ImageFile:
    """The image, of a kind that can be booted."""
    found = read_image(image)
    if found.problem and found.kind != "initrd":
        raise Refused(f"{image}: {found.problem}", hint=f"vmtool rootfs inspect {shell_word(image)}")
    return found


def kernel_of(image: Path, named: Path | None) -> Path:
    """The kernel that a person names, or the one beside the image."""
    kernel = named or image.with_name(f"{image.name}.vmlinuz")
    if not kernel.is_file():
        raise Refused(f"{kernel}: no such file, and an image has no kernel in it", hint="name it with --kernel FILE")
    return kernel.absolute()


def report(image: Path, boot: Boot, trouble: str, as_json: bool) -> None:
    """What the guest said of itself, compared with what was promised.

    Args:
        trouble: what ended the boot before its end; empty when nothing did.
    """
    console = boot.console.read_text(errors="replace") if boot.console.exists() else ""
    findings = list(check_report(read_report(console), boot.promises))
    if as_json:
        print_json(image=str(image), findings=[each.as_json() for each in findings], console=str(boot.console))
    else:
        print_findings(findings)
    if failed := [each.title for each in findings if each.level == "fail"]:
        last = [line for line in console.splitlines() if line.strip()][-6:]
        why = f" ({trouble})" if trouble else ""
        raise VerificationFailed(f"{image}: {', '.join(failed)}: not as promised{why}", details=last,
                                 log=str(boot.console))


def preparation(reader: Reader, cache: Cache, boot: Boot, guest: Architecture) -> tuple[Step, ...]:
    """Unpack what is not there: the tools, a busybox for the guest, and QEMU when the host has none."""
    options, environment = apt_options(reader), build_environment(os.environ)
    steps = [plan_tools(read_unpacked(reader, cache), cache, options, environment),
             plan_tools(read_unpacked(reader, cache, BUSYBOX, guest.debian), cache, options, environment,
                        what="a busybox")]
    if not boot.qemu:
        qemu = read_unpacked(reader, cache, qemu_packages(guest))
        steps.append(plan_tools(qemu, cache, options, environment, what="QEMU"))
    if not all(step.skip for step in steps) and not reader.which("mmdebstrap"):
        raise NotReady("mmdebstrap is not installed; it unpacks QEMU and tools", hint="apt-get install mmdebstrap")
    return tuple(step for step in steps if not step.skip)


def qemu_packages(guest: Architecture) -> tuple[str, ...]:
    """Debian's packages that emulate an architecture."""
    return (guest.qemu, *guest.boards_firmware)


def kvm_runs(reader: Reader) -> bool:
    """Whether KVM runs guests at the processor's speed; everything else is slower than TCG, or hangs."""
    return read_kvm(reader, read_cpu(reader)).verdict == "runs"
