"""A file tree in memory: files with bytes, mode and owner, directories, symbolic and hard links, mounts.

What is wrong answers with the kernel's own error numbers. Every change passes `changed`, one at a time, so that a test
can end the world between two of them.
"""

from __future__ import annotations

import copy
import errno
import functools
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass
class Inode:
    """A file, directory or symbolic link; two names of one file share it.

    Args:
        data: of a file; of a link, where it points.
        size: of a sparse file that has no bytes so far: `truncate`.
    """

    kind: str
    mode: int = 0o644
    uid: int = 0
    data: bytes = b""
    size: int | None = None

    def seen(self) -> tuple[object, ...]:
        """All that a test compares."""
        return (self.kind, f"{self.mode:04o}", self.uid, self.data, self.size)


def error(number: int, path: str) -> OSError:
    """The error that the kernel answers."""
    return OSError(number, os.strerror(number), path)


def plain(path: str | os.PathLike[str]) -> str:
    """One name for each place: /var/run is a link to /run on every machine."""
    return _plain(os.fspath(path))


@functools.cache
def _plain(path: str) -> str:
    text = posixpath.normpath(path)
    return "/run" + text.removeprefix("/var/run") if text == "/var/run" or text.startswith("/var/run/") else text


@dataclass
class Tree:
    """The files of a machine, by path."""

    changed: Callable[[], None] = lambda: None
    nodes: dict[str, Inode] = field(default_factory=lambda: {"/": Inode("dir", 0o755)})
    mounts: list[str] = field(default_factory=list)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tree:
        """Two names of one file stay two names of one file."""
        inodes = {id(inode): replace(inode) for inode in self.nodes.values()}
        return Tree(copy.deepcopy(self.changed, memo), {path: inodes[id(inode)] for path, inode in self.nodes.items()},
                    list(self.mounts))

    def find(self, path: str) -> Inode | None:
        """The file at a path, symbolic links of its last part not followed."""
        return self.nodes.get(plain(path))

    def get(self, path: str) -> Inode:
        """As `find`, with links followed.

        Raises:
            FileNotFoundError: it is not there.
        """
        found = self.find(path)
        if found and found.kind == "link":
            return self.get(posixpath.join(posixpath.dirname(plain(path)), found.data.decode()))
        if not found:
            raise error(errno.ENOENT, path)
        return found

    def below(self, path: str) -> list[str]:
        """Every path below a directory, sorted."""
        start = plain(path).rstrip("/") + "/"
        return sorted(name for name in self.nodes if name.startswith(start) and name != start)

    def names(self, path: str) -> tuple[str, ...]:
        start = plain(path).rstrip("/") + "/"
        return tuple(sorted(name.removeprefix(start) for name in self.nodes
                            if name.startswith(start) and "/" not in name[len(start):] and name != start))

    def read(self, path: str) -> bytes:
        found = self.get(path)
        if found.kind == "dir":
            raise error(errno.EISDIR, path)
        return found.data

    def put(self, path: str, inode: Inode) -> None:
        """Give a file a name, whatever had the name before; as rename(2)."""
        path = plain(path)
        parent = self.find(posixpath.dirname(path))
        if not parent or parent.kind != "dir":
            raise error(errno.ENOTDIR if parent else errno.ENOENT, path)
        if (there := self.find(path)) and there.kind == "dir" and (inode.kind != "dir" or self.below(path)):
            raise error(errno.ENOTEMPTY if inode.kind == "dir" else errno.EISDIR, path)
        self.nodes[path] = inode
        self.changed()

    def write(self, path: str, data: bytes, mode: int = 0o644, uid: int = 0) -> None:
        """A new file in the place of whatever was there."""
        self.put(path, Inode("file", mode, uid, data))

    def overwrite(self, path: str, data: bytes, mode: int = 0o600) -> None:
        """As open(2) with O_TRUNC: a file that is there keeps its mode, owner and other names."""
        found = self.find(path)
        if not found or found.kind == "link":
            self.write(path, data, mode)
        elif found.kind == "dir":
            raise error(errno.EISDIR, path)
        else:
            found.data, found.size = data, None
            self.changed()

    def make_dir(self, path: str, mode: int = 0o755, parents: int | None = None) -> None:
        """A directory, if it is not there; missing parents get the mode `parents`."""
        path = plain(path)
        if (there := self.nodes.get(path)) and there.kind == "dir":
            return
        above = [path[:number] for number, letter in enumerate(path) if letter == "/" and number]
        for each, bits in [*((each, parents) for each in above), (path, mode)]:
            found = self.find(each)
            if found and found.kind == "link":
                found = self.get(each)
            if found and found.kind != "dir":
                raise error(errno.EEXIST if each == path else errno.ENOTDIR, each)
            if not found and bits is None:
                raise error(errno.ENOENT, each)
            if not found:
                self.put(each, Inode("dir", bits or 0))

    def set(self, path: str, **changes: int) -> None:
        """Other mode or owner."""
        found = self.get(path)
        if replace(found, **changes) != found:  # type: ignore[arg-type]
            for name, value in changes.items():
                setattr(found, name, value)
            self.changed()

    def unlink(self, path: str) -> None:
        if plain(path) not in self.nodes:
            raise error(errno.ENOENT, path)
        if self.nodes[plain(path)].kind == "dir" and self.below(path):
            raise error(errno.ENOTEMPTY, path)
        del self.nodes[plain(path)]
        self.changed()

    def remove(self, path: str) -> None:
        """A file or a whole tree, if it is there; from within, so that half of it can be left."""
        for each in (*reversed(self.below(path)), path):
            if plain(each) in self.nodes:
                self.unlink(each)

    def rename(self, source: str, target: str) -> None:
        """atomically, with all that is below.

        Raises:
            OSError: as rename(2).
        """
        source, target = plain(source), plain(target)
        moved = self.nodes.get(source)
        if not moved:
            raise error(errno.ENOENT, source)
        there = self.nodes.get(target)
        if there is moved:
            return
        if there and there.kind == "dir" and (moved.kind != "dir" or self.below(target)):
            raise error(errno.ENOTEMPTY if moved.kind == "dir" else errno.EISDIR, target)
        if there and there.kind != "dir" and moved.kind == "dir":
            raise error(errno.ENOTDIR, target)
        if posixpath.dirname(target) not in self.nodes:
            raise error(errno.ENOENT, target)
        for path in self.below(source):
            self.nodes[target + path.removeprefix(source)] = self.nodes.pop(path)
        self.nodes[target] = self.nodes.pop(source)
        self.changed()

    def exchange(self, first: str, second: str) -> None:
        """Two names for each other's, with all that is below: renameat2(2), RENAME_EXCHANGE."""
        names = plain(first), plain(second)
        taken = {name: [(path.removeprefix(name), self.nodes.pop(path)) for path in (name, *self.below(name))]
                 for name in names}
        for name, other in (names, names[::-1]):
            self.nodes |= {name + rest: node for rest, node in taken[other]}
        self.changed()

    def mounted_below(self, path: str) -> str:
        """A mount point at or below a path."""
        start = plain(path)
        return next((point for point in self.mounts if f"{point}/".startswith(f"{start}/")), "")

    def seen(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        """Every path with what a test compares, hard links by the first name of their file."""
        first: dict[int, str] = {}
        for path, inode in sorted(self.nodes.items()):
            known = first.setdefault(id(inode), path)
            yield path, (inode.seen() if known == path else ("same file as", known))
