"""The guest's disk and initramfs: the Debian tree, the kernel's modules, the compiled drivers, the agent.

The checkout is not in it: it comes in over the agent at each start, so a changed line needs no new disk.
"""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path

from tests.lab.cache import Part
from tests.lab.drivers import DRIVERS
from tests.lab.parts import KERNEL, TREE, run
from vmtool.host import processes
from vmtool.machine import check

GUEST = Path(__file__).with_name("guest")
SIZE = "1500M"
CHECKOUT = "/opt/vmtool"
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
          "dpkg-db-backup.timer", "systemd-tmpfiles-clean.timer", "systemd-random-seed.service", "getty@tty1.service",
          "systemd-update-utmp.service", "systemd-update-utmp-runlevel.service", "systemd-logind.service")
FILES = {
    "etc/fstab": "/dev/vda / ext4 rw,noatime 0 0\n",
    "etc/hostname": "lab\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nForwardToConsole=no\n",
    # A process in D state outlives every stop: the reboot must not wait the usual 90 s for it.
    "etc/systemd/system.conf": "[Manager]\nDefaultTimeoutStopSec=3s\n",
    "etc/systemd/system/lab-agent.service": "[Service]\nExecStart=/usr/bin/python3 -X frozen_modules /usr/local/lib/"
                                            "lab-agent.py\nKillMode=process\nWorkingDirectory=/root\n"
                                            "Environment=HOME=/root LANG=C.UTF-8\n",
    "etc/systemd/system/serial-getty@ttyS0.service.d/login.conf":
        "[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --keep-baud 115200 %I linux\n",
    "usr/local/lib/python3.11/dist-packages/vmtool-checkout.pth": f"{CHECKOUT}\n",
    # As scripts/setup installs it: a Python that is not isolated would start a second one.
    "usr/local/bin/vmtool": "#!/usr/bin/python3 -I\nfrom vmtool.cli.main import main\nmain()\n",
}
# In the order in which busybox must insert them, each after what it depends on.
INITRAMFS_MODULES = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")


def disk(name: str, tree: Part, size: str) -> Part:
    """A root disk of `size` out of a tree, with the lab's kernel modules and drivers, and its initramfs."""

    def make(target: Path, scratch: Path, inputs: tuple[Path, ...]) -> None:
        kernel, whole, drivers = inputs
        version = (kernel / "version").read_text()
        root = scratch / "root"
        run(("cp", "-a", str(whole / "tree"), str(root)), 120)
        equip(root)
        modules = root / "lib/modules" / version
        shutil.copytree(kernel / "modules", modules, symlinks=True)
        (modules / "updates/dkms").mkdir(parents=True)
        for module in drivers.glob("*.ko"):
            shutil.copy(module, modules / "updates/dkms")
        run(("chroot", str(root), "/sbin/depmod", "-a", version), 120)
        make_initramfs(target / "initramfs", scratch / "initramfs", modules, kernel / "busybox", kernel / "busybox")
        make_root(target / "root.img", root, size)

    recipe = (size, *MASKED, *INITRAMFS_MODULES, *(f"{path}\n{text}" for path, text in FILES.items()),
              (GUEST / "agent.py").read_text(), (GUEST / "init").read_text())
    return Part(name, recipe, make, (KERNEL, tree, DRIVERS))


def make_root(target: Path, root: Path, size: str) -> None:
    """Write a tree into a new file system, without mounting it."""
    run(("mke2fs", "-q", "-t", "ext4", "-d", str(root), "-m", "0", str(target), size), 300)


def equip(root: Path) -> None:
    """Write our files into a root tree: the agent, what starts it, and what makes the boot short."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "usr/local/bin/vmtool").chmod(0o755)
    shutil.copy(GUEST / "agent.py", root / "usr/local/lib/lab-agent.py")
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/lab-agent.service").symlink_to("../lab-agent.service")


def make_initramfs(target: Path, tree: Path, modules: Path, busybox: Path, host_busybox: Path) -> None:
    """Write the initramfs: busybox, init, and the modules up to the root disk, with a list of their order."""
    for name in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / name).mkdir(parents=True)
    shutil.copy(busybox, tree / "bin/busybox")
    shutil.copy(GUEST / "init", tree / "init")
    (tree / "init").chmod(0o755)
    wanted = load_order((modules / "modules.dep").read_text(), INITRAMFS_MODULES)
    for path in wanted:
        data = (modules / path).read_bytes()
        (tree / "modules" / _plain(path)).write_bytes(lzma.decompress(data) if path.endswith(".xz") else data)
    (tree / "load").write_text("".join(f"{_plain(path)}\n" for path in wanted))
    names = "\n".join(sorted(os.fspath(path.relative_to(tree)) for path in tree.rglob("*")))
    argv = ("env", "-C", str(tree), str(host_busybox), "cpio", "-o", "-H", "newc", "-F", str(target))
    check(argv, processes.run(argv, deadline=60, stdin=names.encode()))


def load_order(dependencies: str, names: tuple[str, ...]) -> list[str]:
    """The paths of the modules and of all they depend on, in an order that insmod can follow (modules.dep(5))."""
    table = {path: rest.split() for path, _, rest in (line.partition(":") for line in dependencies.splitlines())}
    by_name = {os.path.basename(path).split(".")[0].replace("-", "_"): path for path in table}
    order: list[str] = []
    for name in names:
        path = by_name.get(name.replace("-", "_"))
        if path:                                       # else it is built into this kernel
            # modules.dep names what depends on nothing last
            order += [each for each in (*reversed(table[path]), path) if each not in order]
    return order


def _plain(path: str) -> str:
    return os.path.basename(path).removesuffix(".xz")


DISK = disk("disk", TREE, SIZE)
