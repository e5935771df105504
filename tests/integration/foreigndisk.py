"""Make a disk as other tools make them: `python foreigndisk.py KERNEL FILE DEPMOD...`: qcow2, GPT, LVM, one system."""

from __future__ import annotations

import sys
from pathlib import Path

from vmtool.host.local import LocalHost
from vmtool.rootfs.add.workers.guestfs import opened
from vmtool.rootfs.add.workers.guestfs_kernel import GuestKernel, prepare

RELEASE = 'NAME="openEuler"\nID="openEuler"\nVERSION_ID="24.03"\nPRETTY_NAME="openEuler 24.03 (test)"\n'
KERNEL = "6.6.0-1.x86_64"
VERMAGIC = b"\0vermagic=6.6.0-1.x86_64 SMP\0\0version=550.127.08\0"


def main(kernel: str, file: str, *depmod: str) -> None:
    prepare(LocalHost(), GuestKernel(None if kernel == "-" else Path(kernel), depmod))
    with opened(Path(file), "qcow2", write=True) as guest:
        guest.part_init("/dev/sda", "gpt")
        guest.part_add("/dev/sda", "p", 2048, 206847)
        guest.part_add("/dev/sda", "p", 206848, -2048)
        guest.mkfs("ext4", "/dev/sda1")
        guest.pvcreate("/dev/sda2")
        guest.vgcreate("vg", ["/dev/sda2"])
        guest.lvcreate_free("root", "vg", 100)
        guest.mkfs("ext4", "/dev/vg/root")
        guest.mount("/dev/vg/root", "/")
        for directory in ("/etc", "/bin", "/boot", "/sbin", "/usr/bin", f"/usr/lib/modules/{KERNEL}/updates"):
            guest.mkdir_p(directory)
        guest.mount("/dev/sda1", "/boot")
        guest.write("/etc/os-release", RELEASE)
        guest.write("/etc/fstab", "/dev/vg/root / ext4 defaults 0 0\n")
        guest.write("/etc/machine-id", "")
        guest.ln_s("/etc", "/link")
        # Larger than a message of libguestfs's protocol.
        guest.write(f"/usr/lib/modules/{KERNEL}/updates/nvidia.ko", VERMAGIC)
        guest.truncate_size(f"/usr/lib/modules/{KERNEL}/updates/nvidia.ko", 6 << 20)


if __name__ == "__main__":
    main(*sys.argv[1:])
