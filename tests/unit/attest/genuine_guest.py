"""Guests whose measurement by real hardware is public."""

from __future__ import annotations

# A guest of Kata 3.30 in TDX without an initrd: its command line, and RTMR2 of a genuine quote of it (published with
# the tests of a calculator of reference values, 2026-07).
CMDLINE = (
    "tsc=reliable no_timer_check rcupdate.rcu_expedited=1 i8042.direct=1 i8042.dumbkbd=1 i8042.nopnp=1 i8042.noaux=1 "
    "noreplace-smp reboot=k cryptomgr.notests net.ifnames=0 pci=lastbus=0 "
    'dm-mod.create="dm-verity,,,ro,0 772096 verity 1 /dev/vda1 /dev/vda2 4096 4096 96512 0 sha256 '
    "768cd7e848f6cb7eb4f59467b26ee5c5e45ece570cb96a5c952d97dbc89bb150 "
    '63f8dacc786bd19f307be8668c7792a8fe07818df4aae55b63e76c4931d35c76" '
    "root=/dev/dm-0 rootflags=data=ordered,errors=remount-ro ro rootfstype=ext4 console=hvc0 console=hvc1 quiet "
    "systemd.show_status=false panic=1 nr_cpus=1 selinux=0 systemd.unit=kata-containers.target "
    "systemd.mask=systemd-networkd.service systemd.mask=systemd-networkd.socket scsi_mod.scan=none "
    "agent.launch_process_timeout=6 cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1")
RTMR2 = "b595f9f179d8b699d1420000d36c1fba82e9853545e719caa6ddbb82fa2041a23b4459876af4a253a1c20c5956529b9a"

# Guests that QEMU booted from a kernel, with the digest of the kernel's event in the log beside the quote, and RTMR1 of
# that quote (published with the tests of a platform's verifier, 2026-04).
BOOTED = [{"qemu": "8.2.2",
           "kernel": "ac7e632dcf5cd2a1fe5c1f41f4d9b8219570e64ed3c61038fdbf25404e6f542f"
                     "fd57f276bc5076307efaf882e6d64177",
           "rtmr1": "2023546e7f3b9d1228e274f70c44d481162540f8452544520a796a52f0687970"
                    "9b81a824a26792a7822327504b0d2aee"}]
