"""Reasons not to render or launch what is asked for: all of them at once, before anything starts.

What makes a configuration that Kata would refuse is found by the lint's own rules, in the configuration that the spec
amounts to; only what no file shows is said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from vmtool.architecture import ARM64
from vmtool.findings import Finding, failing, host_lacks, wrong_input
from vmtool.kata.base import MIB
from vmtool.kata.change import by_place
from vmtool.kata.changes import SPEC
from vmtool.kata.facts import GuestFacts, Target
from vmtool.kata.lint.rules import RULES
from vmtool.kata.render import draft
from vmtool.kata.request import KataRequest
from vmtool.kata.shims import RUST
from vmtool.spec.kata_releases import releases
from vmtool.tee.table import NONE, tee_of
from vmtool.tee.virtcca import VIRTCCA

if TYPE_CHECKING:
    from vmtool.rootfs.format.image_file import ImageFile

SILENT = ", and would boot an ordinary VM in silence"


def check_shim(request: KataRequest, target: Target) -> Iterator[Finding]:
    """Whether the release that this host has is known, where the spec leaves it to the host."""
    shim = target.shim
    if request.kata.version != "auto" or shim is None:
        return
    yield from _rust(target)
    if shim.language != RUST and shim.version and not request.release.shim:
        yield host_lacks("kata.version", f"{shim.binary} calls itself {shim.version}, which is no release that vmtool "
                         "knows or that is between two of them", "set it: spec.runtime.kata.version",
                         "spec.runtime.kata.version")


def _rust(target: Target) -> Iterator[Finding]:
    if target.shim and target.shim.language == RUST:
        yield host_lacks("kata.runtime-rs", f"{target.shim.binary} is Kata's Rust runtime (runtime-rs), for which "
                         "vmtool renders no configuration yet", "use the Go shim of the same release: "
                         f"ln -sf /opt/kata/bin/containerd-shim-kata-v2 {target.shim.binary}")


def check_request(request: KataRequest) -> Iterator[Finding]:
    """What is wrong on any host."""
    yield from _combination(request)
    yield from _of_the_tee(request)
    if request.base is None:
        if request.kata.image and request.kata.initrd:
            yield wrong_input("asset.root", "image and initrd are both set; Kata boots one of them", place=SPEC)
        return
    if request.gpus and request.confidential and request.vfio != request.release.confidential_vfio:
        yield wrong_input("kata.vfio", f"a confidential guest of Kata {request.release.name} takes GPUs by "
                          f"{request.release.confidential_vfio} only, not by {request.vfio}", place=f"{SPEC}.vfio")
    for key, path in request.assets.placeholders.items():
        yield wrong_input("kata.placeholder", f"{request.base.source} has {path!r} for it, to be filled in",
                          f"name the file: {SPEC}.{key}", f"{SPEC}.{key}")
    yield from _of_the_file(request)


def _combination(request: KataRequest) -> Iterator[Finding]:
    release, tee, known = request.release, request.tee, tee_of(request.tee)
    if release.configuration(tee, request.gpus) is None:
        fitting = [other.name for other in releases() if other.configuration(tee, request.gpus)]
        yield wrong_input("kata.version", f"Kata {release.name} has no {tee}{' with GPUs' if request.gpus else ''}"
                          f"{SILENT if known and known.needs_patches else ''}; use {', '.join(fitting)}",
                          place=f"{SPEC}.version")
    elif request.base is None:
        why = "is newer than every release that vmtool knows" if release.newer else f"ships none for {request.arch}"
        yield host_lacks("kata.base", f"Kata {release.shim or release.name} {why}, and its own configuration-"
                         f"{release.configuration(tee, request.gpus)}.toml is not below {request.kata.prefix}: there "
                         "is nothing to stand on", "unpack the release's archive, or set spec.runtime.kata.prefix")
    if release.root == "vda" and request.arch == ARM64.machine and tee == NONE:
        yield wrong_input("kata.always-confidential", f"on arm64 every guest of Kata {release.name} is confidential, "
                          f"so ask for {VIRTCCA.name}", place="spec.runtime.tee")


def _of_the_tee(request: KataRequest) -> Iterator[Finding]:
    known = tee_of(request.tee)
    if known and 0 < known.kata.most_devices < request.gpus:
        yield wrong_input("kata.devices.most", f"{request.gpus} devices, but {known.title} takes "
                          f"{known.kata.most_devices} at most", place="spec.resources.accelerators")
    if known and request.body.resources.memory < known.kata.least_memory:
        yield wrong_input(f"kata.memory.{request.tee}", f"{known.title} takes at least {known.kata.least_memory >> 30} "
                          "GiB of secure memory for each VM", place="spec.resources.memory")


def _of_the_file(request: KataRequest) -> Iterator[Finding]:
    """What the lint finds in the configuration, at the keys of the spec that brought it there."""
    made = draft(request)
    changes = made.changes
    for change in changes:
        if change.place and not request.release.knows(change.section, change.key):
            yield wrong_input("kata.key", f"Kata {request.release.name} knows no {change.key}", place=change.place)
    places = {f"{section}.{key}": change.place for (section, key), change in by_place(changes).items()}
    # What Kata changes or ignores without a word is a warning to who checks a file, but not what the spec asks for.
    ignored = [item for item in made.findings if RULES[item.id].when == "silent" and places.get(item.title)]
    for item in failing((*made.findings, *(replace(item, level="fail") for item in ignored))):
        yield replace(item, place=places.get(item.title) or item.place, title="")


BARE, PARTITION = "a file system without a partition table", "a partition table"
ARCHIVES = ("initrd", "gzip", "zstd", "xz")
# Kata's builder starts the partition at 3 MiB, behind a header for DAX, or at 1 MiB without it.
OFFSETS = (3 * MIB, MIB)


def check_host(request: KataRequest, target: Target, guest: GuestFacts) -> Iterator[Finding]:
    """What this host lacks for it."""
    yield from _rust(target)
    known = tee_of(request.tee)
    arch = known.architecture.machine if known else ""
    if arch and target.arch and arch != target.arch:
        yield host_lacks("kata.architecture", f"{request.tee} needs {arch}, but this host is {target.arch}",
                         place="spec.runtime.tee")
    if target.memory is not None and request.memory > target.memory:
        yield host_lacks("host.memory", f"{request.memory} MiB, but this host has {target.memory} MiB",
                         place="spec.resources.memory")
    if target.cores is not None and request.vcpus > target.cores:
        yield host_lacks("host.cpus", f"{request.body.resources.cpus:g}, but this host has {target.cores}",
                         place="spec.resources.cpus")
    yield from (host_lacks("kata.file", f"{path} is not there") for path in guest.absent)
    yield from _image(request, guest)
    if request.verity and guest.dm_init is False:
        yield host_lacks("kata.verity.kernel",
                         f"{request.assets.kernel} was built without CONFIG_DM_INIT, so it cannot set up dm-verity")


def layout_of(image: ImageFile) -> str:
    """What the file is, for who wonders why it is not booted. Kata boots XFS too, which is recognised as it is."""
    if image.kind in ("bare", "xfs"):
        return BARE
    if image.partitions:
        return PARTITION
    return "an initrd" if image.kind in ARCHIVES else image.kind or "not to be read"


def _image(request: KataRequest, guest: GuestFacts) -> Iterator[Finding]:
    image, release = guest.image, request.release
    if image is None:
        return
    wanted = BARE if release.root == "vda" else PARTITION
    what = layout_of(image)
    if what != wanted:
        root = "a bare file system" if wanted == BARE else "the root file system in an MBR's first partition"
        yield host_lacks("kata.image.layout", f"{image.path} is {what}, but Kata {release.name} boots "
                         f"/dev/{release.root}, which needs {root}")
    elif wanted == PARTITION and image.partitions[0].start not in OFFSETS:
        start = image.partitions[0].start
        yield host_lacks("kata.image.offset", f"{image.path}: its partition starts at byte {start}; Kata "
                         f"{release.name} boots one at {' or '.join(map(str, OFFSETS))} only")
    if image.size % (128 * MIB) and wanted == PARTITION and not request.confidential and not request.gpus:
        yield host_lacks("kata.image.size",
                         f"{image.path}: {image.size} bytes is no multiple of 128 MiB, as NVDIMM needs")
    if guest.hooks is False:
        yield host_lacks("kata.image.hook", f"{image.path} has no executable file in {request.hook_path}/prestart, so "
                         "no GPU would reach the container")
