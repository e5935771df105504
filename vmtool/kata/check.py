"""Reasons not to render or launch what is asked for: all of them at once, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.architecture import ARM64
from vmtool.findings import Finding, host_lacks, wrong_input
from vmtool.kata.facts import GuestFacts, Target
from vmtool.kata.values import MAX_PORTS, Asked, cold_plug, root_ports, whole_cpus
from vmtool.rootfs.format.image_file import MIB, ImageFile
from vmtool.spec.kata_releases import RELEASES
from vmtool.tee.table import NONE, tee_of
from vmtool.tee.virtcca import VIRTCCA


def check_request(asked: Asked) -> Iterator[Finding]:
    """What is wrong on any host."""
    kata, release, tee, known = asked.kata, asked.release, asked.tee, tee_of(asked.tee)
    if (tee, asked.gpus > 0) not in release.combinations:
        fitting = [other.name for other in RELEASES if (tee, asked.gpus > 0) in other.combinations]
        yield wrong_input("kata.version", f"Kata {release.name} has no {tee}{' with GPUs' if asked.gpus else ''}"
                          f"{SILENT if known and known.needs_patches else ''}; use {', '.join(fitting)}",
                          place="spec.runtime.kata.version")
    if release.root == "vda" and asked.arch == ARM64.machine and tee == NONE:
        yield wrong_input("kata.always-confidential", f"on arm64 every guest of Kata {release.name} is confidential, "
                          f"so ask for {VIRTCCA.name}", place="spec.runtime.tee")
    if kata.image and kata.initrd:
        yield wrong_input("kata.root", "image and initrd are both set; Kata boots one of them",
                          place="spec.runtime.kata")
    if asked.gpus and cold_plug(asked) == "no-port":
        yield wrong_input("kata.no-port", "GPUs are asked for, and no-port would leave them out",
                          place="spec.runtime.kata.cold_plug_vfio")
    yield from _ports(asked)
    if asked.gpus and asked.confidential and asked.vfio != release.confidential_vfio:
        yield wrong_input("kata.vfio", f"a confidential guest of Kata {release.name} takes GPUs by "
                          f"{release.confidential_vfio} only, not by {asked.vfio}", place="spec.runtime.kata.vfio")
    if asked.verity and not release.verity:
        yield wrong_input("kata.verity.unknown", f"Kata {release.name} knows no kernel_verity_params; put the root "
                          "hash into kernel_params and a measuring initramfs", place="spec.runtime.kata.verity")
    if asked.verity and kata.initrd:
        yield wrong_input("kata.verity.initrd", "an initrd has no root disk to verify",
                          place="spec.runtime.kata.verity")
    if asked.body.resources.memory < 256 * MIB:
        yield wrong_input("kata.memory.least", "below 256 MiB Kata takes 2048 MiB instead",
                          place="spec.resources.memory")
    if known and asked.body.resources.memory < known.kata.least_memory:
        yield wrong_input(f"kata.memory.{tee}", f"{known.title} takes at least {known.kata.least_memory >> 30} GiB of "
                          "secure memory for each VM",
                          place="spec.resources.memory")


BARE, PARTITION = "a file system without a partition table", "a partition table"
ARCHIVES = ("initrd", "gzip", "zstd", "xz")
# Kata's builder starts the partition at 3 MiB, behind a header for DAX, or at 1 MiB without it.
OFFSETS = (3 * MIB, MIB)
SILENT = ", and would boot an ordinary VM in silence"


def _ports(asked: Asked) -> Iterator[Finding]:
    ports, known = root_ports(asked), tee_of(asked.tee)
    if ports > MAX_PORTS:
        yield wrong_input("kata.ports.most", f"{ports} root ports, but Kata makes {MAX_PORTS} at most",
                          place="spec.runtime.kata.root_ports")
    elif known and 0 < known.kata.most_devices < asked.gpus:
        yield wrong_input("kata.devices.most",
                          f"{asked.gpus} devices, but {known.title} takes {known.kata.most_devices} at most",
                          place="spec.resources.accelerators")
    elif asked.kata.root_ports is not None and ports < asked.gpus and cold_plug(asked) == "root-port":
        yield wrong_input("kata.ports.few", f"{ports}, but there are {asked.gpus} devices",
                          place="spec.runtime.kata.root_ports")


def check_host(asked: Asked, target: Target, guest: GuestFacts) -> Iterator[Finding]:
    """What this host lacks for it."""
    known = tee_of(asked.tee)
    arch = known.architecture.machine if known else ""
    if arch and target.arch and arch != target.arch:
        yield host_lacks("kata.architecture", f"{asked.tee} needs {arch}, but this host is {target.arch}",
                         place="spec.runtime.tee")
    memory = asked.body.resources.memory // MIB
    if target.memory is not None and memory > target.memory:
        yield host_lacks("host.memory", f"{memory} MiB, but this host has {target.memory} MiB",
                         place="spec.resources.memory")
    if target.cores is not None and whole_cpus(asked.body.resources.cpus) > target.cores:
        yield host_lacks("host.cpus", f"{asked.body.resources.cpus:g}, but this host has {target.cores}",
                         place="spec.resources.cpus")
    yield from (host_lacks("kata.file", f"{path} is not there") for path in guest.absent)
    yield from _image(asked, guest)
    if asked.verity and guest.dm_init is False:
        yield host_lacks("kata.verity.kernel",
                         f"{asked.assets.kernel} was built without CONFIG_DM_INIT, so it cannot set up dm-verity")


def layout_of(image: ImageFile) -> str:
    """What the file is, for who wonders why it is not booted. Kata boots XFS too, which is recognised as it is."""
    if image.kind in ("bare", "xfs"):
        return BARE
    if image.partitions:
        return PARTITION
    return "an initrd" if image.kind in ARCHIVES else image.kind or "not to be read"


def _image(asked: Asked, guest: GuestFacts) -> Iterator[Finding]:
    image = guest.image
    if image is None:
        return
    wanted = BARE if asked.release.root == "vda" else PARTITION
    what = layout_of(image)
    if what != wanted:
        root = "a bare file system" if wanted == BARE else "the root file system in an MBR's first partition"
        yield host_lacks("kata.image.layout", f"{image.path} is {what}, but Kata {asked.release.name} boots "
                         f"/dev/{asked.release.root}, so it wants {root}")
    elif wanted == PARTITION and image.partitions[0].start not in OFFSETS:
        start = image.partitions[0].start
        yield host_lacks("kata.image.offset", f"{image.path}: its partition starts at byte {start}; Kata "
                         f"{asked.release.name} wants {' or '.join(map(str, OFFSETS))}")
    if image.size % (128 * MIB) and wanted == PARTITION and not asked.confidential and not asked.gpus:
        yield host_lacks("kata.image.size",
                         f"{image.path}: {image.size} bytes is no multiple of 128 MiB, which NVDIMM wants")
    if guest.hooks is False:
        yield host_lacks("kata.image.hook", f"{image.path} has no executable file in {asked.hook_path}/prestart, so no "
                         "GPU would reach the container")
