"""The steps of a launch by libvirt: the guest image itself boots, with the workload's image and the model as disks.

The guest gets neither an address nor the key before vmtool has checked the QEMU that runs it.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from vmtool import plan as p
from vmtool.access.give import write_access
from vmtool.attest.measure.guest import MeasuredGuest
from vmtool.containerd.endpoint import Endpoint, awake
from vmtool.image.pinned_image import PinnedImage
from vmtool.instance.instance import Paths
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.initramfs_files import DISKS, guest_files
from vmtool.libvirt.launch_domain import LaunchDomain
from vmtool.libvirt.tpm_claims import REFERENCE
from vmtool.libvirt.verity_table import MAKE_DISK, MAKE_ENV, is_verified
from vmtool.libvirt.workers import add_verity, start_domain, workload_disk, write_reference
from vmtool.net.network import Network, result_path
from vmtool.net.plugin_calls import IFNAME
from vmtool.paths import State
from vmtool.qemu.actions import ExpectTee
from vmtool.qemu.timeouts import dial_seconds
from vmtool.rootfs.boot.workers import make_initramfs
from vmtool.rootfs.inspect.tree import READERS
from vmtool.spec.runtime import Spec

# libvirt inside vmtool's own process: no daemons beside it, and nothing to register with.
EMBEDDED = """user = "root"
group = "root"
security_driver = "none"
namespaces = [ ]
cgroup_controllers = [ ]
stdio_handler = "file"
swtpm_user = "root"
swtpm_group = "root"
"""
# Seconds until libvirt has started QEMU, at least: it first asks QEMU what it can; with a TEE the memory is accepted,
# and with a GPU it is pinned, before that.
START = 300.0
# How much longer a guest takes that runs without KVM.
SLOWDOWN = 5
# Seconds until the agent of a guest answers, at least, with KVM; emulated it gets SLOWDOWN times that.
BOOT = 120.0


def plan_disks(state: State, spec: Spec, made: LaunchDomain, image: PinnedImage, endpoint: Endpoint) -> p.Step:
    """The workload's image as a disk, once for all instances, and the model as one of this instance's own."""
    directory, tree, cache = made.paths.directory, made.paths.directory / "tree", state.root / "disks"
    model, verified = spec.spec.model.path, is_verified(spec.spec)
    megabytes = -(-max(made.facts.model_size, 1) * 9 // 8 >> 20) + 64
    workload = workload_disk.Order(image.reference, image.digest, image.chain, verified, tree, cache, directory,
                                   endpoint.ctr())
    new = (*MAKE_DISK, "-d", str(model))
    protect = p.run_worker(add_verity.Order(directory / "model.img", directory / "model.verity"), deadline=3700.0)
    return p.Step("make the guest's disks: workload and model", (
        # Others may pass through, so that QEMU can run as a user of its own; nothing in between can be listed.
        p.MakeDir(state.root, mode=0o711), p.MakeDir(cache, mode=0o711), p.MakeDir(state.root / "domains", mode=0o711),
        p.MakeDir(directory, mode=0o711), p.MakeDir(tree),
        p.run_worker(workload, deadline=1800.0),
        p.WriteFile(directory / "model.img", ""),
        p.Run((*new, str(directory / "model.img"), f"{megabytes}M"), env=MAKE_ENV, deadline=3600.0,
              hint="df shows what is free"),
        *([protect] if verified else []),
    ), undo=(
        *awake(state, endpoint),
        p.Run(endpoint.ctr("images", "unmount", "--rm", str(tree)),
              absent_messages=("not found", "no such file", "invalid argument")),
        p.Remove(directory),
    ))


def plan_initrd(spec: Spec, made: LaunchDomain, command: tuple[str, ...]) -> p.Step:
    """The initramfs, out of the image's own modules."""
    directory, facts, image, scratch = made.paths.directory, made.facts, made.image, made.paths.directory / "initrd.d"
    dmsetup = facts.dmsetup if is_verified(spec.spec) else ""
    files = guest_files(image, command, tuple(spec.spec.vllm.env.items()), devices=bool(made.devices), dmsetup=dmsetup,
                        tpm=spec.spec.runtime.libvirt.tpm, sealed=spec.spec.model.encryption is not None)
    created = ["environment", *(f"{name}.verity" for name in DISKS if dmsetup)]
    reader = facts.tools.argv(READERS[image.rootfs.holds])
    make = make_initramfs.Order(image.path, image.rootfs.holds, image.rootfs.start, facts.busybox or Path(), scratch,
                                directory / "initrd", reader)
    return p.Step("make the guest's initramfs", (
        p.Remove(scratch), p.MakeDir(scratch), *(p.WriteFile(scratch / name, text) for name, text in files.items()),
        p.Run(("cp", *(str(directory / name) for name in created), str(scratch))),
        p.run_worker(make, deadline=300.0),
        p.Run(("install", "-m", "0644", str(image.kernel), str(made.kernel))),
        p.Run(("chmod", "0644", str(directory / "initrd"))),
        p.Remove(scratch),
    ), undo=(p.Remove(scratch),))


def plan_reference(guest: MeasuredGuest, name: str, directory: Path) -> p.Step:
    """What the guest's TPM must show, from the files that it is about to boot."""
    order = write_reference.Order(name, guest.architecture, guest.firmware or Path(), guest.kernel or Path(),
                                  guest.initrd or Path(), guest.known_cmdline(), guest.vcpus, guest.memory,
                                  guest.machine, guest.qemu, directory / "evidence" / REFERENCE)
    return p.Step("work out what the guest's TPM must show", (p.run_worker(order, deadline=300.0),))


def boot_seconds(spec: Spec, made: LaunchDomain) -> float:
    """How long QEMU's start may take, and how long the guest's until its agent answers: it follows the memory and the
    GPUs, as in a guest of Kata's."""
    wanted, body = spec.spec.timeouts.boot, spec.spec
    computed = dial_seconds(body.resources.memory >> 20, math.ceil(body.resources.cpus), len(made.devices),
                            body.runtime.tee != "none")
    return wanted or max(BOOT, computed) * (SLOWDOWN if made.emulated else 1)


def plan_domain(spec: Spec, made: LaunchDomain, network: Network, netns: str, directory: Path) -> p.Step:
    """Define and start the domain. Its address is the one that CNI gave to the namespace, whose own interface goes
    down: the guest answers for it, on the same bridge."""
    paths, xml = Paths(directory), made.description
    embedded = made.uri.startswith("qemu:///embed")
    etc = made.paths.run / "libvirt" / "etc"
    return p.Step(f"start the domain {made.paths.domain} ({made.uri.partition('?')[0]})", (
        p.Run(("ip", "-n", netns, "link", "set", "dev", IFNAME, "down")),
        p.Run(("ip", "neigh", "flush", "dev", network.bridge)),
        p.MakeDir(made.paths.run, mode=0o711),
        *([p.MakeDir(etc), p.WriteFile(etc / "qemu.conf", EMBEDDED)] if embedded else []),
        p.WriteFile(xml, made.text),
        p.run_worker(start_domain.Order(made.uri, xml, paths.pidfile), deadline=max(START, boot_seconds(spec, made)),
                     hint=f"the domain's description: {shlex.quote(str(xml))}"),
        p.RecordPid(paths.pidfile),
    ), undo=made.end)


def plan_check(spec: Spec, made: LaunchDomain, directory: Path) -> p.Step:
    """The VM that runs must be the one that was asked for, before it gets anything."""
    tee = spec.spec.runtime.tee
    if tee == "none":
        return p.Step("look whether the guest is confidential", skip="NOT CONFIDENTIAL: no TEE was asked for")
    look = ExpectTee(made.paths.domain, tee, made.devices, made.emulator, str(made.kernel),
                       directory / "evidence" / "qemu.txt", handler="libvirt", pidfile=Paths(directory).pidfile)
    return p.Step(f"look whether the guest really runs in {tee}", (look,))


def plan_greeting(spec: Spec, made: LaunchDomain, directory: Path) -> tuple[p.Step, ...]:
    """Wait for the agent, hear what the guest says of itself, give it its address and, last, the key."""
    paths, seconds = Paths(directory), boot_seconds(spec, made)

    def ask(verb: str, source: Path | None = None, evidence: Path | None = None, deadline: float = 60.0) -> p.Action:
        return GuestRequest(made.paths.channel, verb, paths.pidfile, paths.console, source, evidence, deadline=deadline)

    return (
        p.Step(f"wait until the guest's agent answers, at most {seconds:.0f} s",
               (ask("report", evidence=paths.guest, deadline=seconds),), waits_only=True),
        p.Step("put together who may ask", (write_access(paths, tls=spec.spec.tls.on),)),
        p.Step("hand over the address and the key, start the workload",
               (ask("network", result_path(paths.network)), ask("serve", paths.access)), waits_only=True),
    )
