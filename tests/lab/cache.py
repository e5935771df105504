"""Parts of the lab that are slow to make, kept between sessions: named by what they are made from, and verified.

A part lies in `VMTOOL_CACHE/lab/NAME-KEY/`: `content/`, and `seal.json` with the digest of the content. The key covers
the recipe and the contents of the parts it is made from, so that a part made again with other bytes (a newer kernel,
say) makes everything above it again. The digest is looked at once per process: a damaged part is made again, not used.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.lab.mirror import located

ROOT = Path(os.environ.get("VMTOOL_CACHE") or Path.home() / ".cache" / "vmtool") / "lab"
UNUSED_DAYS = 2
KEPT = 2          # of each name, the newest: one machine's lab has 30 names and up to half a gigabyte each
_ZEROS = bytes(1 << 20)
_seen: dict[str, Built] = {}


class LabError(Exception):
    """The lab cannot be made or does not answer; the message says which part and why."""


@dataclass(frozen=True)
class Built:
    """A part that is there: where its content lies, its digest, and the seconds it took (0 when it was there)."""

    path: Path
    digest: str
    seconds: float


@dataclass(frozen=True)
class Part:
    """Something that can be made.

    Args:
        recipe: every text that decides what comes out, such as argument lists and the files of ours that go in.
        inputs: the parts it is made from.
        make: writes the content into the first directory; the second is for temporary files; then the inputs' content.
    """

    name: str
    recipe: Sequence[str]
    make: Callable[[Path, Path, tuple[Path, ...]], None]
    inputs: tuple[Part, ...] = ()


def ensure(part: Part, *, say: Callable[[str], None] = lambda _line: None) -> Built:
    """The part with everything below it: from the cache when it is there and sound, else made now."""
    part = replace(part, recipe=located(part.recipe))
    inputs = tuple(ensure(each, say=say) for each in part.inputs)
    key = _hash([part.name, *part.recipe, *(each.digest for each in inputs)])[:16]
    if f"{part.name}-{key}" in _seen:
        return _seen[f"{part.name}-{key}"]
    place = ROOT / f"{part.name}-{key}"
    with _locked(part.name):
        built = _sound(place)
        if not built:
            say(f"lab: making {part.name}")
            built = _make(part, place, tuple(each.path for each in inputs))
            say(f"lab: made {part.name} in {built.seconds:.0f} s")
        os.utime(place)
    _seen[place.name] = built
    return built


def digest(tree: Path) -> str:
    """The digest of a directory: names, types, modes, links and bytes. Times and owners do not count."""
    entries = sorted(tree.rglob("*"))
    files = [path for path in entries if path.is_file() and not path.is_symlink()]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        sums = dict(zip(files, pool.map(_file_digest, files), strict=True))
    return _hash([f"{path.relative_to(tree)} {path.lstat().st_mode:o} "
                  + (os.readlink(path) if path.is_symlink() else sums.get(path, "")) for path in entries])


def _sound(place: Path) -> Built | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        sealed = str(json.loads((place / "seal.json").read_text())["digest"])
        if digest(place / "content") == sealed:
            return Built(place / "content", sealed, 0.0)
    return None


def _make(part: Part, place: Path, inputs: tuple[Path, ...]) -> Built:
    started = time.monotonic()
    for stale in ROOT.glob(f".{part.name}-*"):          # of a session that was killed: the lock is ours now
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(prefix=f".{part.name}-", dir=ROOT, ignore_cleanup_errors=True) as directory:
        content, scratch = Path(directory) / "new" / "content", Path(directory) / "scratch"
        content.mkdir(parents=True)
        scratch.mkdir()
        part.make(content, scratch, inputs)
        built = Built(place / "content", digest(content), time.monotonic() - started)
        seal = {"digest": built.digest, "seconds": round(built.seconds, 1), "recipe": list(part.recipe)}
        (content.parent / "seal.json").write_text(json.dumps(seal, indent=1))
        shutil.rmtree(place, ignore_errors=True)
        content.parent.rename(place)
    _forget_unused(part.name)
    return built


def _forget_unused(name: str) -> None:
    """Remove what was not used lately; only parts of this name, since its lock is the one we hold."""
    parts = [place for place in ROOT.glob(f"{name}-*") if len(place.name.removeprefix(f"{name}-")) == 16]
    newest_first = sorted(parts, key=lambda place: place.stat().st_mtime, reverse=True)
    for rank, place in enumerate(newest_first):
        if rank >= KEPT or time.time() - place.stat().st_mtime > UNUSED_DAYS * 86400:
            shutil.rmtree(place)


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    ROOT.mkdir(parents=True, exist_ok=True)
    with open(ROOT / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _file_digest(path: Path) -> str:
    """SHA-256 of a file. Stretches of zeros count by their place only: which are holes is the file system's affair."""
    total = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // len(_ZEROS) * len(_ZEROS)
            except OSError:                            # a hole to the end
                break
            data = os.pread(file.fileno(), len(_ZEROS), at)
            if data != _ZEROS[:len(data)]:
                total.update(at.to_bytes(8))
                total.update(data)
            at += len(_ZEROS)
    return f"{size} {total.hexdigest()}"


def _hash(lines: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(lines).encode()).hexdigest()
