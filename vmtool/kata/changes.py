"""What vmtool changes in a shipped configuration, key by key, and why. Everything else stays as it is shipped."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.attest.measure.init_data import ALLOWS_INIT_DATA
from vmtool.kata.base import AGENT, IMAGE, QEMU, RUNTIME, Base
from vmtool.kata.change import Change
from vmtool.kata.kernel_params import change_kernel_params
from vmtool.kata.request import KataRequest
from vmtool.spec.kata_releases import EROFS
from vmtool.tee.virtcca import VIRTCCA

SPEC = "spec.runtime.kata"


def plan_changes(request: KataRequest, base: Base) -> tuple[Change, ...]:
    """All of them, in the order of their purposes; a key that is as wanted already is none."""
    wanted = (*_size(request, base), *_files(request, base), *_guest(request, base), *_devices(request, base),
              *_sharing(request, base), *_timeouts(request, base), *_host(request))
    last = {(change.section, change.key): change for change in wanted}
    return tuple(_with_shipped(change, base) for change in last.values()
                 if not _is_set(base, change) and (change.place or _takes(request, base, change)))


def _is_set(base: Base, change: Change) -> bool:
    """A string that is not there is an empty one to Kata."""
    shipped = base.get(change.section, change.key)
    return change.value == "" if shipped is None else type(shipped) is type(change.value) and shipped == change.value


def _takes(request: KataRequest, base: Base, change: Change) -> bool:
    """Whether the release reads the key; one that the spec asks for is changed anyway, and the check refuses it."""
    return request.release.knows(change.section, change.key) or base.get(change.section, change.key) is not None


def _with_shipped(change: Change, base: Base) -> Change:
    return Change(change.section, change.key, change.value, change.reason, change.place,
                  base.get(change.section, change.key))


def _size(request: KataRequest, base: Base) -> Iterator[Change]:
    yield Change(QEMU, "default_vcpus", request.vcpus, "the spec's cpus", "spec.resources.cpus")
    yield Change(QEMU, "default_maxvcpus", request.vcpus, "the VM has exactly this size: its only container starts "
                 "without a limit of its own, which would be added")
    yield Change(QEMU, "default_memory", request.memory, "the spec's memory, in MiB", "spec.resources.memory")
    most = base.get(QEMU, "default_maxmemory")
    if isinstance(most, int) and 0 < most < request.memory:
        yield Change(QEMU, "default_maxmemory", 0, "the spec's memory is more, and would be cut to it")


def _files(request: KataRequest, base: Base) -> Iterator[Change]:
    kata, assets = request.kata, request.assets
    if kata.qemu:
        yield Change(QEMU, "path", kata.qemu, "the spec's QEMU", f"{SPEC}.qemu")
        yield Change(QEMU, "valid_hypervisor_paths", [kata.qemu], "only that one")
    if kata.kernel:
        yield Change(QEMU, "kernel", kata.kernel, "the spec's guest kernel", f"{SPEC}.kernel")
    if kata.firmware:
        yield Change(QEMU, "firmware", kata.firmware, "the spec's firmware", f"{SPEC}.firmware")
    if kata.image or kata.initrd:
        asked = "image" if kata.image else "initrd"
        yield Change(QEMU, "image", assets.image, f"the spec's {asked}", f"{SPEC}.{asked}")
        yield Change(QEMU, "initrd", assets.initrd, f"the spec's {asked}", f"{SPEC}.{asked}")
    if assets.image:
        yield from _root(request, base)
    if request.verity or (kata.image and base.text(QEMU, "kernel_verity_params")):
        source = "the spec's dm-verity" if kata.verity else "the image's own dm-verity, from its manifest"
        yield Change(QEMU, "kernel_verity_params", request.verity,
                     source if request.verity else "the shipped parameters are of the release's own image",
                     f"{SPEC}.verity" if kata.verity else "")


def _root(request: KataRequest, base: Base) -> Iterator[Change]:
    """The root file system of an image."""
    if request.kata.rootfs_type != "auto":
        yield Change(QEMU, "rootfs_type", request.kata.rootfs_type, "the spec's rootfs_type", f"{SPEC}.rootfs_type")
    elif request.filesystem:
        yield Change(QEMU, "rootfs_type", request.filesystem, "what the image's manifest says")
    elif request.kata.image:
        yield Change(QEMU, "rootfs_type", "ext4", "the usual file system of an image of one's own")
    elif request.gpus and request.injection == "cdi" and not base.installed and request.release.version >= EROFS:
        yield Change(QEMU, "rootfs_type", "erofs", "NVIDIA's images are erofs since 3.31")
    if request.gpus or (request.release.root == "vda" and request.tee == VIRTCCA.name):
        yield Change(QEMU, "disable_image_nvdimm", True, f"the guest boots /dev/{request.release.root}")


def _guest(request: KataRequest, base: Base) -> Iterator[Change]:
    text, reason = change_kernel_params(request, base.text(QEMU, "kernel_params"))
    if text is not None:
        yield Change(QEMU, "kernel_params", text, reason)
    if request.confidential:
        yield Change(QEMU, "confidential_guest", True, f"{request.tee} is asked for", "spec.runtime.tee")
    if request.confidential or request.gpus:
        why = "its memory is encrypted" if request.confidential else "a GPU pins all of its memory"
        yield Change(RUNTIME, "static_sandbox_resource_mgmt", True, f"the VM cannot grow later: {why}")


def _devices(request: KataRequest, base: Base) -> Iterator[Change]:
    kata, asked = request.kata, request.kata.cold_plug_vfio
    port = asked if asked != "auto" else "root-port" if request.gpus else ""
    if port:
        yield Change(QEMU, "cold_plug_vfio", port, "the devices are there when the guest boots, and QEMU's arguments "
                     "show them", f"{SPEC}.cold_plug_vfio" if asked != "auto" else "")
    if port not in ("", "no-port") and base.text(QEMU, "hot_plug_vfio") not in ("", "no-port"):
        yield Change(QEMU, "hot_plug_vfio", "no-port", "cold_plug_vfio and hot_plug_vfio exclude each other")
    if kata.root_ports is not None:
        yield Change(QEMU, "pcie_root_port", kata.root_ports, "the spec's root_ports", f"{SPEC}.root_ports")
    if request.gpus:
        hook = request.hook_path
        yield Change(QEMU, "guest_hook_path", hook, "where the image has the hook that brings the GPU into the "
                     "container" if hook else "the agent brings the GPU into the container by CDI")
        yield Change(RUNTIME, "sandbox_cgroup_only", True, "what a GPU pins counts for the pod's own cgroup")


def _sharing(request: KataRequest, base: Base) -> Iterator[Change]:
    shared = request.kata.shared_fs
    if shared != (base.text(QEMU, "shared_fs") or "virtio-fs"):
        yield Change(QEMU, "shared_fs", shared, "containerd gives the container's files from the host: nothing pulls "
                     "an image inside the guest" if shared != "none" else "the guest pulls images itself",
                     f"{SPEC}.shared_fs")
    if shared == "none":
        return
    if not request.assets.virtiofsd:
        daemon = f"{request.kata.prefix}/libexec/virtiofsd"
        yield Change(QEMU, "virtio_fs_daemon", daemon, "virtio-fs needs it, and none is named")
        yield Change(QEMU, "valid_virtio_fs_daemon_paths", [daemon], "only that one")
    if base.get(IMAGE, "service_offload") is True:
        yield Change(IMAGE, "service_offload", False, "the image comes from the host's containerd")
    arguments = base.get(QEMU, "virtio_fs_extra_args")
    if request.release.root == "vda" and request.tee == VIRTCCA.name and isinstance(arguments, list):
        yield Change(QEMU, "virtio_fs_extra_args", [word for word in arguments if word != "--announce-submounts"],
                     "the virtiofsd of the patched release does not know --announce-submounts")


def _timeouts(request: KataRequest, base: Base) -> Iterator[Change]:
    gpus = f" and {request.gpus} GPU{'s' * (request.gpus > 1)}" if request.gpus else ""
    guest = f"{'a confidential' if request.confidential else 'a'} guest with {request.memory} MiB{gpus}"
    for section, key, seconds in ((AGENT, "dial_timeout", request.dial_seconds),
                                  (RUNTIME, "create_container_timeout", request.create_seconds)):
        shipped = base.get(section, key)
        if not isinstance(shipped, int) or shipped < seconds:
            yield Change(section, key, seconds, f"seconds that {guest} may take")


def _host(request: KataRequest) -> Iterator[Change]:
    """What somebody outside of the guest may do to it."""
    allowed = list(request.kata.annotations)
    if request.takes_init_data and ALLOWS_INIT_DATA not in allowed:
        allowed.append(ALLOWS_INIT_DATA)
    yield Change(QEMU, "enable_annotations", allowed, "what a pod's author may change",
                 f"{SPEC}.annotations" if request.kata.annotations else "")
    yield Change(RUNTIME, "pod_resource_api_sock", "", "outside of Kubernetes there is no kubelet to ask for devices")
