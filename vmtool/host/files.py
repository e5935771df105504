"""Writing files so that a reader, or the next start after a crash, sees the old or the new one, never half."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from vmtool import procfs
from vmtool.errors import VmtoolError, shell_word
from vmtool.host import processes
from vmtool.isolation import OWN_IDS

# A file that is being written, next to its place: .NAME.PID.tmp, the pid as 8 hexadecimal digits. A kill before the
# rename leaves it, so nobody counts it (`names`), and whoever writes or removes NAME the next time removes it.
TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{8})\.tmp", re.DOTALL)


def write(path: Path, data: bytes | str, *, mode: int = 0o600, uid: int | None = None) -> None:
    """Write atomically: a temporary file next to it, fsync, rename, fsync of the directory."""
    make_private(path.parent)
    _write(path, data, mode, uid, os.replace)


def write_at(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it to a place in an open file: a disk that becomes full takes a part without an error.

    Raises:
        OSError: it cannot be written, such as for want of room.
    """
    rest = memoryview(data)
    while rest:
        done = os.pwrite(descriptor, rest, at)
        rest, at = rest[done:], at + done


def write_new(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """As `write`, of a file that is not there yet.

    Raises:
        FileExistsError: something has its name, also a link to nothing.
    """
    _write(path, data, mode, None, _rename_to_new)


def _write(path: Path, data: bytes | str, mode: int, uid: int | None, put: Callable[[Path, Path], None]) -> None:
    remove_temporaries(path)
    temporary = path.with_name(f".{path.name}.{os.getpid():08x}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if uid is not None:
                os.fchown(file.fileno(), uid, -1)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        put(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and not error.filename:  # of a write, such as on a full disk
            error.filename = str(path)
        raise
    sync_directory(path.parent)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """rename(2) replaces what has the name; link(2) does not."""
    os.link(temporary, path)
    temporary.unlink()


def names(path: str) -> tuple[str, ...]:
    """The sorted names in a directory, without what kills left of writes."""
    return tuple(sorted(name for name in os.listdir(path) if not TEMPORARY.fullmatch(name)))


def remove_temporaries(path: Path) -> None:
    """Remove what killed writes of this file left, and nothing that another process writes just now."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(path.parent):
            found = TEMPORARY.fullmatch(name)
            if found and found[1] == path.name and not _is_others(int(found[2], 16)):
                path.with_name(name).unlink(missing_ok=True)


def _is_others(pid: int) -> bool:
    return pid != os.getpid() and os.path.exists(f"/proc/{pid}")


def sync_directory(path: Path) -> None:
    """Make a rename or unlink in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Create a directory and its missing parents, all of mode 0700 (`Path.mkdir` gives the mode to the last only)."""
    for directory in (*reversed(path.parents), path):
        if not directory.is_dir():
            directory.mkdir(mode=0o700, exist_ok=True)


def make_dir(path: Path, *, mode: int = 0o700, uid: int = 0) -> None:
    """Create a directory with its parents (mode 0700); the last one gets `mode` and the owner `uid`, 0 for oneself."""
    make_private(path)
    owner = uid or os.geteuid()
    path.chmod(mode)
    if owner != path.stat().st_uid:
        os.chown(path, owner, -1)


def remove(path: Path) -> None:
    """Remove a file or a tree, and what killed writes of that file left; refuse when something is mounted below it,
    lest another file system be emptied."""
    remove_temporaries(path)
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    below = os.path.realpath(path) + "/"
    mounted = next((point for point in mount_points() if f"{point}/".startswith(below)), None)
    if mounted:
        raise VmtoolError(f"{path}: {mounted} is mounted there, so it is not removed",
                          hint=f"umount {shell_word(mounted)}")
    try:
        shutil.rmtree(path)
    except PermissionError:
        # Packages that an ordinary user unpacked: their users' files belong to the ids that were given to those.
        argv = (*OWN_IDS, "rm", "-rf", "--one-file-system", os.fspath(path))
        if os.geteuid() == 0 or processes.run(argv, deadline=600).status:
            raise


def mount_points() -> list[str]:
    """Where something is mounted, as this process sees it."""
    return procfs.mount_points(os.fsdecode(Path("/proc/self/mountinfo").read_bytes()))


def write_output(path: Path, text: str) -> Path:
    """Write a file for everybody to read; there is no secret in it.

    Raises:
        VmtoolError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text, mode=0o644)
    except OSError as error:
        raise VmtoolError(f"{path}: {error.strerror}") from error
    return path
