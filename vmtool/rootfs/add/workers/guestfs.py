"""Looking into an image, or putting a file into it, through libguestfs: a program of vmtool's own.

    python -m vmtool.rootfs.add.workers.guestfs look KERNEL IMAGE FORMAT OUT.json DEPMOD...
    python -m vmtool.rootfs.add.workers.guestfs insert KERNEL IMAGE FORMAT FILE PATH MODE DEPMOD...

KERNEL is a tree with boot/vmlinuz-* and its modules, or "-" for the host's; DEPMOD is how depmod is called. libguestfs
is imported here only, in a process that may be killed at any time: the image is untouched, or a copy.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vmtool import machine
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.host import files, processes
from vmtool.rootfs.inspect.contents import Contents, check_contents, read_contents
from vmtool.rootfs.inspect.tree import LIMIT, Node, resolve

MEMORY = 512
# A file beyond that goes through a temporary one: a message of the protocol has 4 MiB at most.
_MESSAGE = 2 << 20
_ENTRIES, _LARGEST = 200_000, 4 << 20
_SWAP = ("swap", "unknown", "LVM2_member", "linux_raid_member", "crypto_LUKS", "DM_verity_hash")
_TOOLKIT = "nvidia-container-toolkit"


class GuestTree:
    """A `vmtool.rootfs.inspect.tree.Tree` of what is mounted in the guest."""

    def __init__(self, guest: Any) -> None:
        self.guest = guest

    def look(self, path: str) -> Node | None:
        try:
            found = self.guest.lstatns(path)
            mode = found["st_mode"]
            kind = {stat.S_IFREG: "file", stat.S_IFDIR: "dir", stat.S_IFLNK: "link"}.get(stat.S_IFMT(mode), "other")
            return Node(kind, stat.S_IMODE(mode), found["st_size"],
                        self.guest.readlink(path) if kind == "link" else "")
        except RuntimeError:
            return None

    def names(self, path: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(self.guest.ls(path)))[:_ENTRIES]
        except RuntimeError:
            return ()

    def text(self, path: str, limit: int = LIMIT) -> str | None:
        at, node = resolve(self, path)
        if not node or node.kind != "file" or node.size > limit:
            return None
        try:
            if node.size <= _MESSAGE:
                data = self.guest.read_file(at)
                return str(data.decode(errors="replace"))
            with tempfile.NamedTemporaryFile() as file:
                self.guest.download(at, file.name)
                return Path(file.name).read_bytes().decode(errors="replace")
        except RuntimeError:
            return None


@contextlib.contextmanager
def opened(image: str, form: str, *, write: bool) -> Iterator[Any]:
    """The guest, with the image as its one disk; everything written is on the disk when it ends well.

    Raises:
        NotReady: it does not start.
    """
    import guestfs

    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        guest.set_memsize(MEMORY)
        # The format is said, not guessed: a raw disk whose guest wrote a qcow2 head into it stays raw.
        guest.add_drive_opts(image, format=form, readonly=not write)
        try:
            guest.launch()
        except RuntimeError as error:
            raise NotReady(f"libguestfs does not start its guest: {last_line(error)}",
                           hint="libguestfs-test-tool tells more (apt-get install libguestfs-tools)") from error
        yield guest
        guest.umount_all()
        guest.shutdown()
    finally:
        guest.close()


def mount(guest: Any, *, write: bool) -> str:
    """Mount the system that is in the image, as its fstab says; the device of its root.

    Raises:
        Refused: there is none, or more than one.
    """
    roots = guest.inspect_os()
    if len(roots) > 1:
        raise Refused(f"{len(roots)} systems are in the image: {', '.join(sorted(roots))}")
    put = guest.mount if write else guest.mount_ro
    if roots:
        points = guest.inspect_get_mountpoints(roots[0])
        for place in sorted(points, key=len):
            with contextlib.suppress(RuntimeError):     # a disk that is not here
                put(points[place], place)
        return str(roots[0])
    # libguestfs knows a system by its /etc and /bin; a guest of Kata's may lack what it looks for.
    for device, kind in sorted(guest.list_filesystems().items()):
        if kind in _SWAP:
            continue
        with contextlib.suppress(RuntimeError):
            put(device, "/")
            if guest.exists("/etc/os-release") or guest.exists("/usr/lib/os-release"):
                return str(device)
            guest.umount("/")
    raise Refused("no system is in the image: no file system with an /etc/os-release")


def look(image: str, form: str, out: Path) -> None:
    """Write down what is in the image, as JSON of a few MiB at most."""
    with opened(image, form, write=False) as guest:
        systems = [{"device": device, "holds": kind, "size": size_of(guest, device)}
                   for device, kind in sorted(guest.list_filesystems().items())]
        table = first_of(lambda: guest.part_get_parttype("/dev/sda"))
        root = mount(guest, write=False)
        tree = GuestTree(guest)
        contents = completed(guest, root, read_contents(tree))
        findings = [each.as_json() for each in check_contents(tree, contents)]
        size = guest.blockdev_getsize64("/dev/sda")
    text = json.dumps({"virtual_size": size, "table": table, "root": root, "filesystems": systems[:64],
                       "contents": asdict(contents), "findings": findings}) + "\n"
    if len(text) > _LARGEST:
        raise Refused("what was found is more than an image's owner would write: it is not shown")
    files.write(out, text)


def completed(guest: Any, root: str, contents: Contents) -> Contents:
    """With the toolkit's version where RPM's database tells it."""
    if not contents.has_toolkit or contents.toolkit:
        return contents
    try:
        packages = guest.inspect_list_applications2(root)
    except RuntimeError:
        return contents
    version = next((each["app2_version"] for each in packages if each["app2_name"] == _TOOLKIT), "")
    return replace(contents, toolkit=version)


def insert(image: str, form: str, file: Path, path: str, mode: int) -> None:
    """Put a file into the image, in the place of one that is there; it is read back.

    Raises:
        Refused: a directory is in its place; or dm-verity's hashes would not fit any more.
    """
    with opened(image, form, write=True) as guest:
        if "DM_verity_hash" in guest.list_filesystems().values():
            raise Refused("the image has dm-verity hashes, which a change breaks")
        mount(guest, write=True)
        tree, parent = GuestTree(guest), path.rpartition("/")[0]
        node = tree.look(path)
        if node and node.kind == "dir":
            raise Refused(f"{path}: a directory of the image is there")
        guest.mkdir_p(parent or "/")
        guest.rm_f(path)
        guest.upload(str(file), path)
        guest.chmod(mode, path)
        guest.chown(0, 0, path)
        guest.sync()
        seen = tree.look(path)
        if seen != Node("file", mode, file.stat().st_size):
            raise Refused(f"{path} did not get into the image")


def size_of(guest: Any, device: str) -> int:
    """A device's size in bytes; -1 for what is no block device, such as a subvolume of btrfs."""
    try:
        return int(guest.blockdev_getsize64(device))
    except RuntimeError:
        return -1


def first_of(ask: Any) -> str:
    """An answer, or nothing."""
    try:
        return str(ask())
    except RuntimeError:
        return ""


def last_line(error: RuntimeError) -> str:
    """The last line of libguestfs's words that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line or "exited" in line), lines[-1] if lines else "no reason")


def use_kernel(tree: Path, depmod: Sequence[str]) -> None:
    """Tell supermin (supermin(1), ENVIRONMENT VARIABLES) of an unpacked kernel.

    Raises:
        NotReady: the tree has none.
    """
    releases = sorted(path.name for path in (tree / "usr/lib/modules").glob("*"))
    if not releases or not (tree / "boot" / f"vmlinuz-{releases[-1]}").exists():
        raise NotReady(f"{tree}: no kernel in it", hint=f"rm -r {tree}, then try again")
    release = releases[-1]
    modules = tree / "usr/lib/modules" / release
    if not (modules / "modules.dep").exists():
        if not (tree / "lib").exists():
            (tree / "lib").symlink_to("usr/lib")
        machine.check(depmod, processes.run((*depmod, "-b", str(tree), release), deadline=120))
    os.environ |= {"SUPERMIN_KERNEL": str(tree / "boot" / f"vmlinuz-{release}"), "SUPERMIN_MODULES": str(modules),
                   "SUPERMIN_KERNEL_VERSION": release}


def give_modules_dir() -> None:
    """supermin looks at /lib/modules even when it is told of a kernel elsewhere; a container has none.

    It is made in this process's own mount namespace, over the host's directory and not in it.
    """
    if os.path.isdir("/lib/modules"):
        return
    place = Path(tempfile.mkdtemp())
    steps = (("mount", "-t", "tmpfs", "tmpfs", str(place)), ("mkdir", str(place / "up"), str(place / "work")),
             ("mount", "-t", "overlay", "overlay", "-o",
              f"lowerdir=/usr/lib,upperdir={place}/up,workdir={place}/work", "/usr/lib"))
    if os.geteuid() or any(processes.run(argv, deadline=30).status for argv in steps):
        raise NotReady("there is no /lib/modules, which supermin looks at", hint="mkdir -p /lib/modules")
    os.makedirs("/lib/modules", exist_ok=True)


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    try:
        match list(words):
            case ["look", kernel, image, form, out, *depmod] if depmod:
                prepare(kernel, depmod)
                look(image, form, Path(out))
            case ["insert", kernel, image, form, file, path, mode, *depmod] if depmod:
                prepare(kernel, depmod)
                insert(image, form, Path(file), path, int(mode, 8))
            case _:
                sys.exit(__doc__)
    except VmtoolError as error:
        sys.exit("\n".join([error.hint, error.message]).strip())
    except RuntimeError as error:                       # what libguestfs raises for everything
        sys.exit(f"libguestfs: {last_line(error)}")


def prepare(kernel: str, depmod: Sequence[str]) -> None:
    """Make the guest possible."""
    if kernel != "-":
        use_kernel(Path(kernel), depmod)
        give_modules_dir()


if __name__ == "__main__":
    main(sys.argv[1:])
