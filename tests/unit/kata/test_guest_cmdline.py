"""The command line that Kata makes of a rendering: a TEE measures it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.attest.genuine_guest import CMDLINE
from tests.unit.kata.cases import requested
from vmtool.attest.measure.guest import NotComputed
from vmtool.kata.guest_cmdline import guest_cmdline
from vmtool.kata.measured import measured_guest
from vmtool.kata.render import render
from vmtool.kata.request import KataRequest

VERITY = ("root_hash=768cd7e848f6cb7eb4f59467b26ee5c5e45ece570cb96a5c952d97dbc89bb150,"
          "salt=63f8dacc786bd19f307be8668c7792a8fe07818df4aae55b63e76c4931d35c76,data_blocks=96512,"
          "data_block_size=4096,hash_block_size=4096")
# Of a guest of the releases around 3.15 with an erofs image, as another project has it in its build.
EARLIER = (
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1 "
    "noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0 root=/dev/vda1 rootflags=ro rootfstype=erofs "
    "console=hvc0 console=hvc1 quiet systemd.show_status=false panic=1 nr_cpus=1 selinux=0 "
    "systemd.unit=kata-containers.target systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket "
    "scsi_mod.scan=none")
# With an initrd, of another's collector of reference values.
INITRD = ("pci=lastbus=0 console=hvc0 console=hvc1 quiet panic=1 nr_cpus=1 selinux=0 scsi_mod.scan=none "
          "agent.launch_process_timeout=6 cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1")


def line(request: KataRequest) -> str:
    return guest_cmdline(request.release, render(request).values)


def test_the_command_line_of_a_genuine_guest() -> None:
    assert line(requested("3.30", "tdx", verity=VERITY, cpus=1)) == CMDLINE


def test_an_earlier_release_and_an_initrd() -> None:
    assert line(requested("3.15", "tdx", kata={"rootfs_type": "erofs"}, cpus=1)).startswith(EARLIER)
    assert line(requested("3.30", "snp", kata={"initrd": "/i"}, cpus=1)).endswith(INITRD)


@pytest.mark.parametrize(("release", "kata", "why"), [
    ("4.1", {}, "which words Kata 4.1 adds"), ("3.32", {}, "which words Kata 3.32"),
])
def test_what_is_not_known_is_not_guessed(release: str, kata: dict[str, Any], why: str) -> None:
    with pytest.raises(NotComputed, match=why):
        line(requested(release, "snp", kata=kata))


@pytest.mark.parametrize(("section", "key"), [("hypervisor.qemu", "enable_debug"), ("agent.kata", "enable_tracing"),
                                              ("hypervisor.qemu", "enable_iommu")])
def test_a_setting_that_changes_it_is_named(section: str, key: str) -> None:
    request = requested("3.30", "snp")
    values = {name: dict(table) for name, table in render(request).values.items()}
    values[section][key] = True
    with pytest.raises(NotComputed, match=f"{section}.{key} changes"):
        guest_cmdline(request.release, values)


def test_what_is_measured_is_what_is_rendered() -> None:
    request = requested("3.30", "snp", verity=VERITY, kata={"kernel_params": "mine=1"})
    guest = measured_guest(request, render(request), "sha256:ab")
    assert (guest.tee, guest.vcpus, guest.signature, guest.image) == ("snp", 4, (23, 1, 2), "sha256:ab")
    assert (str(guest.firmware), guest.initrd) == ("/opt/kata/share/ovmf/AMDSEV.fd", None)
    assert str(guest.kernel) == "/opt/kata/share/kata-containers/vmlinuz.container"
    assert guest.cmdline and guest.cmdline.endswith(" mine=1")
    assert guest.root_hashes == {"root": VERITY[10:74]}
    unknown = requested("4.1", "snp")
    assert measured_guest(unknown, render(unknown), "").cmdline is None
