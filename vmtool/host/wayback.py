"""The way back of a change to an image in its place: what it was, in one file beside it, before the first byte changes.

    python -m vmtool.host.wayback IMAGE     bring the image back; without such a file, nothing

The file has one line of JSON, {"inode", "size" and "times" of the image, "ranges": [[place, length]...], "papers":
{path: text or null}}, and then the bytes of the ranges. While it is there the image is of no use (`ImageFile.problem`);
removing it is what makes the change good. Going back may be interrupted too, and started again.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.facts.imagefile import way_back
from vmtool.host import files

_PIECE = 8 << 20
# Seconds for processes of a vmtool that was killed to be gone.
_WAIT = 5.0


def be_alone(image: Path, descriptor: int) -> None:
    """Refuse an image that somebody else has open, and let nobody open it until it is closed here.

    A lease for writing is given for a file that nobody else has open, and who opens it then waits (fcntl(2)).
    """
    signal.signal(signal.SIGIO, signal.SIG_IGN)        # somebody waits
    end = time.monotonic() + _WAIT
    while True:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            return
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return                                 # no leases on this file system; the planner has asked /proc
        if time.monotonic() > end:
            raise NotReady(f"{image} is in use", hint="end what uses it, then try again")
        time.sleep(0.05)


def save(image: Path, descriptor: int, ranges: Sequence[tuple[int, int]], papers: Sequence[Path]) -> None:
    """Write the file, durably.

    Args:
        descriptor: of the image.
        ranges: (place, length) of what will change; behind the image's end nothing need be saved.
        papers: files that go back with the image; null stands for one that is not there.
    """
    status, file = os.fstat(descriptor), way_back(image)
    size = status.st_size
    kept = [(at, min(length, size - at)) for at, length in ranges if at < size]
    head = {"inode": status.st_ino, "size": size, "times": [status.st_atime_ns, status.st_mtime_ns], "ranges": kept,
            "papers": {str(path): path.read_text() if path.exists() else None for path in papers}}
    beside = file.with_name(f"{file.name}.new")
    with open(beside, "wb", opener=_private) as out:
        out.write(json.dumps(head).encode() + b"\n")
        for at, length in kept:
            for place in range(at, at + length, _PIECE):
                out.write(os.pread(descriptor, min(_PIECE, at + length - place), place))
        out.flush()
        os.fsync(out.fileno())
    beside.rename(file)
    files.sync_directory(file.parent)


def restore(image: Path) -> None:
    """Bring the image and its papers back, and remove the file.

    Raises:
        Refused: another image has its place now; no byte of it is changed.
    """
    file = way_back(image)
    if not file.exists():
        return
    descriptor = os.open(image, os.O_RDWR)
    try:
        be_alone(image, descriptor)
        with file.open("rb") as saved:
            head = json.loads(saved.readline())
            if head["inode"] != os.fstat(descriptor).st_ino:
                raise Refused(f"{image} is not the file that was being grown any more",
                              hint=f"if it is as you want it: rm {file}")
            for at, length in head["ranges"]:
                for place in range(at, at + length, _PIECE):
                    write(descriptor, saved.read(min(_PIECE, at + length - place)), place)
        os.ftruncate(descriptor, head["size"])
        # By size and time a build knows what it has given out.
        os.utime(descriptor, ns=tuple(head["times"]))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for name, text in head["papers"].items():
        if text is None:
            Path(name).unlink(missing_ok=True)
        else:
            files.write(Path(name), text, mode=0o644)
    file.unlink()
    files.sync_directory(file.parent)


def write(descriptor: int, data: bytes, at: int) -> None:
    """Write all of it: the kernel may write less at a time."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(descriptor, rest, at)
        rest, at = rest[done:], at + done


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 1:
        sys.exit(__doc__)
    try:
        restore(Path(words[0]))
    except VmtoolError as error:
        sys.exit(f"{error.message}\nhint: {error.hint}")


if __name__ == "__main__":
    main(sys.argv[1:])
