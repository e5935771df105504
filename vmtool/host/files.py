"""Writing files so that a reader, or the next start after a crash, sees the old or the new one, never half."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.host import processes
from vmtool.isolation import OWN_IDS


def write(path: Path, data: bytes | str, *, mode: int = 0o600, uid: int | None = None) -> None:
    """Write atomically: a temporary file beside it, fsync, rename, fsync of the directory."""
    make_private(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            if uid is not None:
                os.fchown(file.fileno(), uid, -1)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


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
    """Remove a file or a tree; refuse when something is mounted below it, lest another file system be emptied."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    below = os.path.realpath(path) + "/"
    mounted = next((point for point in mount_points() if f"{point}/".startswith(below)), None)
    if mounted:
        raise VmtoolError(f"{path}: {mounted} is mounted there, so it is not removed", hint=f"umount {mounted}")
    try:
        shutil.rmtree(path)
    except PermissionError:
        # Packages that an ordinary user unpacked: their users' files belong to the ids that were given to those.
        argv = (*OWN_IDS, "rm", "-rf", "--one-file-system", os.fspath(path))
        if os.geteuid() == 0 or processes.run(argv, deadline=600).status:
            raise


def mount_points() -> list[str]:
    """Where something is mounted (proc(5), mounts). The file writes a blank as \\040: no path of vmtool's has one."""
    return [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]



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
