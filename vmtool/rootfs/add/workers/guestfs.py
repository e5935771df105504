"""libguestfs for the workers that read an image in a guest, or put a file into it.

It is imported here only, in a process that may be killed at any time: the image is untouched, or a copy.
"""

from __future__ import annotations

import contextlib
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.rootfs.inspect.tree import LIMIT, Node, resolve

MEMORY = 512
# A file beyond that goes through a temporary one: a message of the protocol has 4 MiB at most.
_MESSAGE = 2 << 20
_ENTRIES = 200_000
_SWAP = ("swap", "unknown", "LVM2_member", "linux_raid_member", "crypto_LUKS", "DM_verity_hash")


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
def opened(image: Path, form: str, *, write: bool) -> Iterator[Any]:
    """The guest, with the image as its one disk; everything written is on the disk when it ends well.

    Raises:
        NotReady: it does not start.
        VmtoolError: what libguestfs says of a call within the block that failed.
    """
    import guestfs

    guest = guestfs.GuestFS(python_return_dict=True)
    try:
        guest.set_memsize(MEMORY)
        # The format is said, not guessed: a raw disk whose guest wrote a qcow2 head into it stays raw.
        guest.add_drive_opts(str(image), format=form, readonly=not write)
        _launch(guest)
        yield guest
        guest.umount_all()
        guest.shutdown()
    except RuntimeError as error:                       # what libguestfs raises for everything
        raise VmtoolError(f"libguestfs: {last_line(error)}") from error
    finally:
        guest.close()


def _launch(guest: Any) -> None:
    try:
        guest.launch()
    except RuntimeError as error:
        raise NotReady(f"libguestfs does not start its guest: {last_line(error)}",
                       hint="libguestfs-test-tool shows more (apt-get install libguestfs-tools)") from error


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


def last_line(error: RuntimeError) -> str:
    """The last line of libguestfs's words that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "rror" in line or "exited" in line), lines[-1] if lines else "no reason")
