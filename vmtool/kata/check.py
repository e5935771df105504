"""What speaks against rendering or launching a wish: everything at once, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.architecture import ARM64
from vmtool.kata.facts import GuestFacts, Target
from vmtool.kata.image import MIB, OFFSETS
from vmtool.kata.values import ARCH, MAX_PORTS, VIRTCCA_DEVICES, Asked, cold_plug, root_ports, whole_cpus
from vmtool.spec.kata_releases import RELEASES


def wish_problems(asked: Asked) -> Iterator[str]:
    """What is wrong on any host."""
    kata, release, tee = asked.kata, asked.release, asked.tee
    if (tee, asked.gpus > 0) not in release.combinations:
        fitting = [other.name for other in RELEASES if (tee, asked.gpus > 0) in other.combinations]
        yield (f"spec.runtime.kata.version: Kata {release.name} has no {tee}{' with GPUs' if asked.gpus else ''}"
               f"{SILENT if tee == 'virtcca' else ''}; use {', '.join(fitting)}")
    if release.root == "vda" and asked.arch == ARM64.machine and tee == "none":
        yield f"spec.runtime.tee: on arm64 every guest of Kata {release.name} is confidential, so ask for virtcca"
    if kata.image and kata.initrd:
        yield "spec.runtime.kata: image and initrd are both set; Kata boots one of them"
    if asked.gpus and cold_plug(asked) == "no-port":
        yield "spec.runtime.kata.cold_plug_vfio: GPUs are asked for, and no-port would leave them out"
    yield from _ports(asked)
    if asked.gpus and asked.confidential and asked.vfio != release.confidential_vfio:
        yield (f"spec.runtime.kata.vfio: a confidential guest of Kata {release.name} takes GPUs by "
               f"{release.confidential_vfio} only, not by {asked.vfio}")
    if asked.verity and not release.verity:
        yield (f"spec.runtime.kata.verity: Kata {release.name} knows no kernel_verity_params; put the root hash into "
               "kernel_params and a measuring initramfs")
    if asked.verity and kata.initrd:
        yield "spec.runtime.kata.verity: an initrd has no root disk to verify"
    if asked.body.resources.memory < 256 * MIB:
        yield "spec.resources.memory: below 256 MiB Kata takes 2048 MiB instead"
    if tee == "virtcca" and asked.body.resources.memory < 1 << 30:
        yield "spec.resources.memory: virtCCA takes at least 1 GiB of secure memory for each VM"


SILENT = ", and would boot an ordinary VM in silence"


def _ports(asked: Asked) -> Iterator[str]:
    ports = root_ports(asked)
    if ports > MAX_PORTS:
        yield f"spec.runtime.kata.root_ports: {ports} root ports, but Kata makes {MAX_PORTS} at most"
    elif asked.tee == "virtcca" and asked.gpus > VIRTCCA_DEVICES:
        yield f"spec.resources.accelerators: {asked.gpus} devices, but virtCCA takes {VIRTCCA_DEVICES} at most"
    elif asked.kata.root_ports is not None and ports < asked.gpus and cold_plug(asked) == "root-port":
        yield f"spec.runtime.kata.root_ports: {ports}, but there are {asked.gpus} devices"


def host_problems(asked: Asked, target: Target, guest: GuestFacts) -> Iterator[str]:
    """What this host lacks for it."""
    arch = ARCH.get(asked.tee)
    if arch and target.arch and arch != target.arch:
        yield f"spec.runtime.tee: {asked.tee} needs {arch}, but this host is {target.arch}"
    memory = asked.body.resources.memory // MIB
    if target.memory is not None and memory > target.memory:
        yield f"spec.resources.memory: {memory} MiB, but this host has {target.memory} MiB"
    if target.cores is not None and whole_cpus(asked.body.resources.cpus) > target.cores:
        yield f"spec.resources.cpus: {asked.body.resources.cpus:g}, but this host has {target.cores}"
    yield from (f"{path} is not there" for path in guest.absent)
    yield from _image(asked, guest)
    if asked.verity and guest.dm_init is False:
        yield f"{asked.assets.kernel} was built without CONFIG_DM_INIT, so it cannot set up dm-verity"


def _image(asked: Asked, guest: GuestFacts) -> Iterator[str]:
    image = guest.image
    if image is None or image.size is None:
        return
    wanted = "bare" if asked.release.root == "vda" else "partition"
    if image.layout != wanted:
        what = {"bare": "a file system without a partition table", "partition": "a partition table",
                "archive": "an initrd", "": "not to be read"}.get(image.layout, image.layout)
        yield (f"{image.path} is {what}, but Kata {asked.release.name} boots /dev/{asked.release.root}, so it wants "
               + ("a bare file system" if wanted == "bare" else "the root file system in an MBR's first partition"))
    elif wanted == "partition" and image.offset not in OFFSETS:
        yield (f"{image.path}: its partition starts at byte {image.offset}; Kata {asked.release.name} wants "
               f"{' or '.join(map(str, OFFSETS))}")
    if image.size % (128 * MIB) and wanted == "partition" and not asked.confidential and not asked.gpus:
        yield f"{image.path}: {image.size} bytes is no multiple of 128 MiB, which NVDIMM wants"
    if guest.hooks is False:
        yield f"{image.path} has no executable file in {asked.hook_path}/prestart, so no GPU would reach the container"
