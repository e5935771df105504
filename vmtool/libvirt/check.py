"""What speaks against a domain before anything starts: every problem, with whose fault it is."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.libvirt.domain import TEE_ARCHITECTURES, TEE_FIRMWARE, TEE_MACHINES, foreign
from vmtool.libvirt.verity_table import is_verified
from vmtool.spec.libvirt import Libvirt
from vmtool.spec.runtime import Body

# The first libvirt that knows the launchSecurity type (its NEWS). virtCCA's is in openEuler's patched libvirt only,
# whose version number does not tell.
LEAST = {"snp": (10, 5), "tdx": (11, 6)}
Problem = tuple[type[VmtoolError], str]


def wish_problems(body: Body, architecture: str, version: str | None) -> Iterator[Problem]:
    """What is wrong with the spec, or with this host's libvirt for it.

    Args:
        architecture: of the guest.
        version: libvirt's; None when it is not installed or does not tell.
    """
    tee = body.runtime.tee
    if tee != "none" and architecture != TEE_ARCHITECTURES[tee]:
        yield Refused, f"spec.runtime.tee: {tee} exists on {TEE_ARCHITECTURES[tee]}, the guest image is {architecture}"
    yield from _boot(body.runtime.libvirt, tee)
    yield from _machine(body, tee)
    if tee != "none" and not is_verified(body):
        yield Refused, f"spec.runtime.libvirt.verity: without it the host of a guest in {tee} could alter its disks"
    yield from _texts(body.runtime.libvirt)
    if version is None:
        yield NotReady, "libvirt is not installed (apt-get install libvirt-daemon-system libvirt-clients)"
    elif tee in LEAST and _numbers(version) < LEAST[tee]:
        least = ".".join(map(str, LEAST[tee]))
        yield NotReady, f"libvirt {version} cannot start a domain in {tee}: {least} is the first that can"


def _boot(wish: Libvirt, tee: str) -> Iterator[Problem]:
    if tee in TEE_FIRMWARE and not wish.firmware:
        yield Refused, (f"spec.runtime.libvirt.firmware: {tee} measures the firmware: name an OVMF that was built for "
                        "it (such as OVMF.amdsev.fd or OVMF.inteltdx.fd)")
    if tee not in TEE_FIRMWARE and wish.boot == "kernel" and wish.firmware:
        yield Refused, "spec.runtime.libvirt.firmware: is not used when QEMU loads the kernel (boot: firmware)"
    if tee not in TEE_FIRMWARE and wish.boot == "firmware" and not wish.firmware:
        yield Refused, "spec.runtime.libvirt.boot: firmware needs the path of one (spec.runtime.libvirt.firmware)"
    if wish.boot == "firmware" and (wish.kernel or wish.kernel_params):
        yield Refused, "spec.runtime.libvirt: kernel and kernel_params do nothing with boot: firmware"


def _machine(body: Body, tee: str) -> Iterator[Problem]:
    machine, wanted = body.runtime.libvirt.machine, body.resources.accelerators
    if tee in TEE_MACHINES and machine and machine != TEE_MACHINES[tee]:
        yield Refused, f"spec.runtime.libvirt.machine: {tee} has {TEE_MACHINES[tee]} only, not {machine}"
    if machine in ("pc", "microvm", "isapc") and (wanted.count or wanted.bdf):
        yield Refused, f"spec.runtime.libvirt.machine: {machine} has no PCI Express, which a GPU needs: q35"


def _texts(wish: Libvirt) -> Iterator[Problem]:
    for place, text in (("image", wish.image or ""), ("firmware", wish.firmware or ""),
                        *(("kernel_params", word) for word in wish.kernel_params)):
        if character := foreign(str(text)):
            yield Refused, (f"spec.runtime.libvirt.{place}: {str(text)[:60]!r} holds {character!r}, which a domain's "
                            "description cannot")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
