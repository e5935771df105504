"""Reasons not to start a domain, before anything starts: all of them, and whether input or host is at fault."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.libvirt.domain import foreign
from vmtool.libvirt.installed import numbers
from vmtool.libvirt.verity_table import is_verified
from vmtool.spec.libvirt import Libvirt
from vmtool.spec.runtime import Body
from vmtool.tee.table import tee_of
from vmtool.tee.tee import Tee


def check_request(body: Body, architecture: str, version: str | None) -> Iterator[Finding]:
    """What is wrong with the spec, or with this host's libvirt for it.

    Args:
        architecture: of the guest.
        version: libvirt's; None when it is not installed or does not tell.
    """
    tee = tee_of(body.runtime.tee)
    if tee and architecture != tee.architecture.machine:
        yield wrong_input("libvirt.architecture",
                          f"{tee.name} exists on {tee.architecture.machine}, the guest image is {architecture}",
                          place="spec.runtime.tee")
    yield from _boot(body.runtime.libvirt, tee)
    yield from _machine(body, tee)
    if tee and not is_verified(body):
        yield wrong_input("libvirt.verity", f"without it the host of a guest in {tee.name} could alter its disks",
                          place="spec.runtime.libvirt.verity")
    yield from _texts(body.runtime.libvirt)
    if version is None:
        yield host_lacks("libvirt.absent", "libvirt is not installed",
                         "apt-get install libvirt-daemon-system libvirt-clients")
    elif tee and numbers(version) < tee.libvirt.since:
        least = ".".join(map(str, tee.libvirt.since))
        yield host_lacks("libvirt.version",
                         f"libvirt {version} cannot start a domain in {tee.name}: {least} is the first that can")


def _boot(request: Libvirt, tee: Tee | None) -> Iterator[Finding]:
    measured = tee is not None and tee.measures_firmware
    if tee and measured and not request.firmware:
        yield wrong_input("libvirt.firmware.measured", f"{tee.name} measures the firmware: name an OVMF that was built "
                          "for it (such as OVMF.amdsev.fd or OVMF.inteltdx.fd)", place="spec.runtime.libvirt.firmware")
    if not measured and request.boot == "kernel" and request.firmware and not request.tpm:
        yield wrong_input("libvirt.firmware.unused", "is not used when QEMU loads the kernel (boot: firmware, or tpm: "
                          "true)", place="spec.runtime.libvirt.firmware")
    if request.tpm and not request.firmware:
        yield wrong_input("libvirt.firmware.tpm", "a firmware measures into the TPM: name one, such as "
                          "/usr/share/OVMF/OVMF_CODE_4M.fd of Debian's ovmf", place="spec.runtime.libvirt.firmware")
    if request.device_tree and (request.boot == "firmware" or not tee or not tee.measures_device_tree):
        yield wrong_input("libvirt.device-tree.unused", "only virtCCA measures it, where QEMU loads the kernel (boot: "
                          "kernel)", place="spec.runtime.libvirt.device_tree")
    if request.tpm and tee:
        yield wrong_input("libvirt.tpm.tee", f"the host runs this TPM, so it proves nothing of a guest in {tee.name}",
                          place="spec.runtime.libvirt.tpm")
    if not measured and request.boot == "firmware" and not request.firmware:
        yield wrong_input("libvirt.firmware.unnamed", "firmware needs the path of one (spec.runtime.libvirt.firmware)",
                          place="spec.runtime.libvirt.boot")
    if request.boot == "firmware" and (request.kernel or request.kernel_params):
        yield wrong_input("libvirt.kernel.unused", "kernel and kernel_params do nothing with boot: firmware",
                          place="spec.runtime.libvirt")


def _machine(body: Body, tee: Tee | None) -> Iterator[Finding]:
    machine, wanted = body.runtime.libvirt.machine, body.resources.accelerators
    if tee and tee.libvirt.machine and machine and machine != tee.libvirt.machine:
        yield wrong_input("libvirt.machine.tee", f"{tee.name} has {tee.libvirt.machine} only, not {machine}",
                          place="spec.runtime.libvirt.machine")
    if machine in ("pc", "microvm", "isapc") and (wanted.count or wanted.bdf):
        yield wrong_input("libvirt.machine.gpu", f"{machine} has no PCI Express, which a GPU needs: q35",
                          place="spec.runtime.libvirt.machine")


def _texts(request: Libvirt) -> Iterator[Finding]:
    for place, text in (("image", request.image or ""), ("firmware", request.firmware or ""),
                        *(("kernel_params", word) for word in request.kernel_params)):
        if character := foreign(str(text)):
            yield wrong_input("libvirt.character", f"{str(text)[:60]!r} holds {character!r}, which a domain's "
                              "description cannot", place=f"spec.runtime.libvirt.{place}")
