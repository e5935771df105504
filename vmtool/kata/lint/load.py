"""What the shim refuses when it reads the file (src/runtime/pkg/katautils/config.go)."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator

from vmtool.findings import Finding
from vmtool.kata.assets import is_placeholder
from vmtool.kata.lint.target import FACTORY, QEMU, RUNTIME, LintTarget
from vmtool.spec.verity_params import verity_problem

PORTS = ("no-port", "root-port", "switch-port", "bridge-port")
ENUMS = {
    (QEMU, "shared_fs"): ("virtio-fs", "virtio-9p", "virtio-fs-nydus", "none"),
    (QEMU, "block_device_driver"): ("virtio-scsi", "virtio-blk", "virtio-mmio", "nvdimm", "virtio-blk-ccw"),
    (QEMU, "block_device_aio"): ("io_uring", "native", "threads"),
    (QEMU, "cold_plug_vfio"): PORTS,
    (QEMU, "hot_plug_vfio"): PORTS,
    (QEMU, "extra_monitor_socket"): ("hmp", "qmp", "qmp-pretty"),
    (RUNTIME, "vfio_mode"): ("guest-kernel", "vfio"),
    (RUNTIME, "internetworking_model"): ("tcfilter", "macvtap", "none", "default"),
}
EMPTYDIR, PLAIN_EMPTYDIR = ("shared-fs", "block-encrypted"), "block-plain"
PLAIN_EMPTYDIR_SINCE = (4, 0)
SHARING = ("virtio-fs", "virtio-fs-nydus")


def load_findings(target: LintTarget) -> Iterator[Finding]:
    """All of them."""
    yield from _enums(target)
    yield from _assets(target)
    yield from _devices(target)
    yield from _runtime(target)
    yield from _extensions(target)
    yield from _files(target)


def _enums(target: LintTarget) -> Iterator[Finding]:
    plain = (PLAIN_EMPTYDIR,) if target.release.version >= PLAIN_EMPTYDIR_SINCE else ()
    for (section, key), choices in (ENUMS | {(RUNTIME, "emptydir_mode"): (*EMPTYDIR, *plain)}).items():
        value = target.get(section, key)
        # An empty value is none, and the runtime takes its own.
        if isinstance(value, str) and value and value not in choices and target.release.knows(section, key):
            yield target.finding("value.enum", section, key, f"{key} = {value[:60]!r} is none of {', '.join(choices)}",
                                 f"write {key} = \"{choices[0]}\"")
    if features := target.words(RUNTIME, "experimental"):
        yield target.finding("value.enum", RUNTIME, "experimental", f"the Go runtime has no experimental feature "
                             f"{features[0][:60]!r}", "write experimental = []")


def _assets(target: LintTarget) -> Iterator[Finding]:
    for key in ("path", "kernel"):
        value = target.text(QEMU, key)
        if not value:
            yield target.finding("asset.unset", QEMU, key, f"{key} is not set", f"name the file: {key} = \"/...\"")
        elif is_placeholder(value):
            yield target.finding("asset.placeholder", QEMU, key, f"{key} = {value[:80]!r} is to be filled in",
                                 f"name the file: {key} = \"/...\"")
    share = target.text(QEMU, "shared_fs") or "virtio-fs"
    if share in SHARING and not target.text(QEMU, "virtio_fs_daemon"):
        yield target.finding("asset.virtiofsd-unset", QEMU, "virtio_fs_daemon", f"{share} without a virtio_fs_daemon",
                             'name it: virtio_fs_daemon = "/opt/kata/libexec/virtiofsd"')


def _devices(target: LintTarget) -> Iterator[Finding]:
    ports = [target.text(QEMU, f"{how}_plug_vfio") for how in ("cold", "hot")]
    if all(port not in ("", "no-port") for port in ports):
        yield target.finding("vfio.both", QEMU, "hot_plug_vfio", "cold_plug_vfio and hot_plug_vfio are both set",
                             'write hot_plug_vfio = "no-port"')
    sizes = {kind: target.number(QEMU, f"block_device_{kind}_sector_size") for kind in ("logical", "physical")}
    for kind, size in sizes.items():
        if size and (size & (size - 1) or not 512 <= size <= 65536):
            yield target.finding("value.sectors", QEMU, f"block_device_{kind}_sector_size", f"{size} is no power of "
                                 "two from 512 to 65536", "write 0, 512 or 4096")
    if 0 < sizes["physical"] < sizes["logical"]:
        yield target.finding("value.sectors", QEMU, "block_device_logical_sector_size", f"the logical sector "
                             f"({sizes['logical']}) is larger than the physical one ({sizes['physical']})",
                             f"write {sizes['physical']} or less")


def _runtime(target: LintTarget) -> Iterator[Finding]:
    model = target.text(RUNTIME, "internetworking_model")
    if target.flag(RUNTIME, "disable_new_netns") and model != "none":
        yield target.finding("value.netns", RUNTIME, "disable_new_netns", "disable_new_netns with "
                             f"internetworking_model = {model or 'its default'}",
                             'write disable_new_netns = false, or internetworking_model = "none"')
    if target.flag(FACTORY, "enable_template") and not target.text(QEMU, "initrd"):
        yield target.finding("value.template", FACTORY, "enable_template", "enable_template without an initrd",
                             "write enable_template = false")
    bases = Counter(posixpath.basename(posixpath.normpath(path)) for path in target.words(RUNTIME,
                                                                                         "sandbox_bind_mounts"))
    for base in (base for base, count in bases.items() if count > 1):
        yield target.finding("value.bind-mounts", RUNTIME, "sandbox_bind_mounts", f"{base[:60]} is there twice",
                             "give each a name of its own")
    if target.flag(QEMU, "enable_numa") and len(target.words(QEMU, "numa_mapping")) > 1 and not target.flag(
            RUNTIME, "static_sandbox_resource_mgmt"):
        yield target.finding("value.numa", RUNTIME, "static_sandbox_resource_mgmt", "several NUMA nodes in a VM that "
                             "may grow", "write static_sandbox_resource_mgmt = true")


def _extensions(target: LintTarget) -> Iterator[Finding]:
    images = target.get(QEMU, "guest_extension_images")
    tables = [item for item in images if isinstance(item, dict)] if isinstance(images, list) else []
    names = Counter(str(item.get("name", "")) for item in tables)
    for item in tables:
        name, verity = item.get("name", ""), item.get("verity_params", "")
        problem = ("no name" if not name else "no path" if not item.get("path") else
                   f"the name {str(name)[:40]!r} twice" if names[str(name)] > 1 else
                   verity_problem(verity) if isinstance(verity, str) else "")
        if problem:
            yield target.finding("value.extension", QEMU, "guest_extension_images", f"an extension image has {problem}",
                                 '{name = "coco", path = "/...", verity_params = "root_hash=..."}')


def _files(target: LintTarget) -> Iterator[Finding]:
    exists = target.host.exists
    if exists is None:
        return
    singles = [(key, target.text(QEMU, key)) for key in ("path", "kernel", "image", "initrd", "firmware",
                                                        "firmware_volume")]
    lists = [(QEMU, "pflashes"), (RUNTIME, "sandbox_bind_mounts")]
    named = [(QEMU, key, name) for key, name in singles if name and not is_placeholder(name)]
    named += [(section, key, name) for section, key in lists for name in target.words(section, key)]
    for section, key, name in named:
        if not exists(name):
            yield target.finding("asset.absent", section, key, f"{name} is not there",
                                 "install it, or correct the path")
