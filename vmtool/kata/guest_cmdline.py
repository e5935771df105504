"""The kernel command line that Kata's Go runtime makes of a configuration: a TEE measures it.

Kata's own sources say which words it adds (src/runtime/virtcontainers: qemu_amd64.go, qemu_arch_base.go, kata_agent.go,
hypervisor.go). They differ by release, so this is known of those in `KNOWN` only, for confidential guests of x86.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmtool.attest.measure.guest import NotComputed
from vmtool.kata.base import AGENT, QEMU, RUNTIME
from vmtool.spec.kata_releases import Release
from vmtool.spec.verity_params import parse_verity

KNOWN = ("3.15", "3.30")
FIRST = ("tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 "
         "i8042.noaux=1 noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0")
CONSOLES = "console=hvc0 console=hvc1"
SYSTEMD = ("systemd.unit=kata-containers.target systemd.mask=systemd-networkd.service "
           "systemd.mask=systemd-networkd.socket")
FLAGS = {"ext4": "data=ordered,errors=remount-ro ro", "xfs": "data=ordered,errors=remount-ro ro", "erofs": "ro"}
# Settings that add or replace words, in ways that are not known here.
OTHERS = ((QEMU, "enable_debug"), (AGENT, "enable_debug"), (RUNTIME, "enable_debug"), (AGENT, "enable_tracing"),
          (RUNTIME, "enable_tracing"), (QEMU, "use_legacy_serial"), (QEMU, "enable_iommu"))

Values = Mapping[str, Mapping[str, Any]]


def guest_cmdline(release: Release, values: Values) -> str:
    """The whole of it.

    Raises:
        NotComputed: the words of this release, or of a setting, are not known.
    """
    if release.name not in KNOWN or release.newer:
        raise NotComputed(f"which words Kata {release.title} adds to the kernel's command line is not known here: "
                          f"it is of {' and '.join(KNOWN)}")
    if others := [f"{section}.{key}" for section, key in OTHERS if values.get(section, {}).get(key)]:
        raise NotComputed(f"{', '.join(others)} changes the words that Kata adds to the kernel's command line")
    return " ".join(_words(values))


def _words(values: Values) -> Iterator[str]:
    qemu, agent = values.get(QEMU, {}), values.get(AGENT, {})
    yield FIRST
    if qemu.get("image"):
        yield from _root(qemu)
    yield f"{CONSOLES} quiet"
    if qemu.get("image"):
        yield "systemd.show_status=false"
    yield f"panic=1 nr_cpus={_most_vcpus(qemu)} selinux={0 if qemu.get('disable_guest_selinux') else 1}"
    if qemu.get("image"):
        yield SYSTEMD
    yield "scsi_mod.scan=none"
    if agent.get("debug_console_enabled"):
        yield "agent.debug_console agent.debug_console_vport=1026"
    if timeout := agent.get("launch_process_timeout"):
        yield f"agent.launch_process_timeout={timeout}"
    if words := str(qemu.get("kernel_params", "")).split():
        yield " ".join(words)


def _most_vcpus(qemu: Mapping[str, Any]) -> int:
    most = qemu.get("default_maxvcpus")
    if not isinstance(most, int) or most <= 0:
        raise NotComputed("default_maxvcpus is left to the host's number of processors")
    return most


def _root(qemu: Mapping[str, Any]) -> Iterator[str]:
    """Of a confidential guest's image, which is a virtio-blk disk."""
    kind = str(qemu.get("rootfs_type") or "ext4")
    if kind not in FLAGS:
        raise NotComputed(f"rootfs_type {kind} is not known")
    device = "/dev/vda1"
    if verity := parse_verity(str(qemu.get("kernel_verity_params") or "")):
        size, blocks = int(verity["data_block_size"]), int(verity["data_blocks"])
        yield (f'dm-mod.create="dm-verity,,,ro,0 {size // 512 * blocks} verity 1 /dev/vda1 /dev/vda2 {size} '
               f'{verity["hash_block_size"]} {blocks} 0 sha256 {verity["root_hash"]} {verity["salt"]}"')
        device = "/dev/dm-0"
    yield f"root={device} rootflags={FLAGS[kind]} rootfstype={kind}"
