"""How far the encryption of a model is: beside each file that is done a small one that says from what it was made.

A second `vmtool model encrypt` of the same source goes on where the first one ended; the manifest ends them all.
"""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.host import files
from vmtool.records import record_of, record_text
from vmtool.serving.cryptotensors.manifest import SignedFile

SUFFIX = ".vmtool-done"
NEW = ".vmtool-new"
_MAX = 64 << 10


@dataclass(frozen=True)
class SourceState:
    """By what a source is known again: its size, when it was changed (ns), and which file it is."""

    size: int
    changed: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> SourceState:
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class Done:
    """A file that is done.

    Args:
        kid, signer: names of the keys that it was made with; empty for a file in clear.
    """

    source: SourceState
    entry: SignedFile
    kid: str = ""
    signer: str = ""


@dataclass(frozen=True)
class SourceFile:
    """A file of the model.

    Args:
        path: where its bytes are: what a link of the Hugging Face cache points to.
        outside: a link that leads out of the model's own cache or directory.
        done: what was made of it, if that is still there.
    """

    name: str
    path: Path
    regular: bool
    outside: bool
    state: SourceState | None
    done: Done | None


def done_path(target: Path) -> Path:
    """Where the note beside a file is."""
    return target.with_name(f".{target.name}{SUFFIX}")


def new_path(target: Path) -> Path:
    """The name that a file has until it is whole."""
    return target.with_name(f".{target.name}{NEW}")


def write_done(target: Path, done: Done) -> None:
    """Note that a file is done; it and its directory are on the disk by then."""
    files.write(done_path(target), record_text(done))


def read_done(target: Path) -> Done | None:
    """The note; None when there is none that counts, such as for a file that is not there or has another size."""
    try:
        done = record_of(Done, read_regular(done_path(target), _MAX).decode())
        return done if os.lstat(target).st_size == done.entry.size else None
    except (OSError, ValueError, Refused):
        return None
