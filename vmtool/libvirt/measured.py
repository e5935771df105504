"""What of a libvirt guest is measured, as its domain has it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.foreign import read_regular
from vmtool.libvirt.domain import Kernel, kernel_words, machine_of
from vmtool.libvirt.initramfs_files import DISKS
from vmtool.libvirt.launch_domain import LaunchDomain
from vmtool.libvirt.verity_table import is_verified, root_hash_of
from vmtool.spec.runtime import Body

# A line of device-mapper's.
LONGEST = 4096


def measured_guest(body: Body, made: LaunchDomain, image: str) -> MeasuredGuest:
    """The guest that libvirt would start, once the files of its launch are made.

    Args:
        image: digest of the workload's.
    """
    settings, facts = body.runtime.libvirt, made.facts
    words = kernel_words(facts.architecture, body.runtime.tee, made.image.target, settings.kernel_params)
    direct = settings.boot == "kernel"
    return MeasuredGuest(
        tee=body.runtime.tee, architecture=facts.architecture, firmware=settings.firmware,
        kernel=made.image.kernel if direct else None, initrd=made.paths.directory / "initrd" if direct else None,
        cmdline=Kernel(made.kernel, None, words).cmdline if direct else None, vcpus=math.ceil(body.resources.cpus),
        memory=body.resources.memory, machine=machine_of(facts.architecture, body.runtime.tee, settings.machine),
        tpm=settings.tpm, qemu=facts.qemu_version, signature=facts.signature, image=image,
        root_hashes=dict(_root_hashes(body, made)), device_tree=settings.device_tree)


def _root_hashes(body: Body, made: LaunchDomain) -> Iterator[tuple[str, str]]:
    if not is_verified(body):
        return
    if made.image.verity:
        yield "root", made.image.verity.root_hash
    for name in DISKS:
        with contextlib.suppress(FileNotFoundError):
            table = read_regular(made.paths.directory / f"{name}.verity", LONGEST)
            yield name, root_hash_of(table.decode(errors="replace"))
