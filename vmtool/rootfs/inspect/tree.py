"""Looking into a root file system without mounting it: ext4 through debugfs, erofs through dump.erofs.

The bytes are nobody's friend: a size is looked at before a file is read, and a symbolic link is followed within the
image and a few times only.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, shell_word
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.rootfs.format.image_file import ImageFile

LIMIT = 1 << 20
# What reads each file system without mounting it.
READERS = {"ext4": "debugfs", "erofs": "dump.erofs"}
_HOPS = 8
_KINDS = {"regular": "file", "directory": "dir", "symlink": "link"}
# What can be put into a line of debugfs between quotes, and what no guest's file needs beyond that.
_PATH = re.compile(r"/[\w./@+:,=~^%-]*")


@dataclass(frozen=True)
class Node:
    """A file in an image: `kind` is "file", "dir", "link" or "other"; `mode` its permissions; `target` a link's."""

    kind: str
    mode: int
    size: int
    target: str = ""

    @property
    def executable(self) -> bool:
        return self.kind == "file" and bool(self.mode & 0o111)


class Tree(Protocol):
    """Files by their absolute paths. Absence is a fact: nothing raises for it."""

    def look(self, path: str) -> Node | None:
        """The file itself, not what a link points to; None when it is absent."""

    def names(self, path: str) -> tuple[str, ...]:
        """What is in a directory, sorted; empty when it is none."""

    def text(self, path: str, limit: int = LIMIT) -> str | None:
        """The text of a regular file, links followed; None when it is absent, no file, or larger than `limit` bytes."""


def resolve(tree: Tree, path: str) -> tuple[str, Node | None]:
    """Follow links in the path and at its end, as the guest would; None when they end nowhere or go round."""
    rest, at, hops = path.strip("/").split("/"), "/", 0
    node: Node | None = None
    while rest:
        part = rest.pop(0)
        if part in ("", ".", ".."):
            at = posixpath.dirname(at) if part == ".." else at
            continue
        node = tree.look(posixpath.join(at, part))
        if node is None or node.kind != "link":
            at = posixpath.join(at, part)
            continue
        hops += 1
        if hops > _HOPS:
            return posixpath.join(at, part), None
        at = "/" if node.target.startswith("/") else at
        rest = [*node.target.strip("/").split("/"), *rest]
    return at, node


def can_ask(path: str) -> bool:
    """Whether a path can be given to the programs that read a file system."""
    return _PATH.fullmatch(path) is not None


class Ext4Tree:
    """An ext4 file system at a place in a file; `call` is how debugfs is called."""

    def __init__(self, reader: Reader, call: Sequence[str], image: Path, start: int) -> None:
        self.reader, self.call = reader, tuple(call)
        # e2fsprogs takes what follows a question mark as options of its own.
        self.device = f"{image}?offset={start}"

    def look(self, path: str) -> Node | None:
        out = self._ask("stat", path)
        match = re.search(r"Type: (\w+).*?Mode:\s+(\d+)", out)
        size = re.search(r"\bSize: (\d+)", out)
        if not match:
            return None
        fast = re.search(r'Fast link dest: "(.*)"', out)
        target = fast[1] if fast else (self._ask("cat", path) if match[1] == "symlink" else "")
        return Node(_KINDS.get(match[1], "other"), int(match[2], 8), int(size[1]) if size else 0, target)

    def names(self, path: str) -> tuple[str, ...]:
        lines = (line.split("/") for line in self._ask("ls -p", path).splitlines() if line.startswith("/"))
        return tuple(sorted(line[5] for line in lines if len(line) > 6 and line[5] not in ("", ".", "..")))

    def text(self, path: str, limit: int = LIMIT) -> str | None:
        at, node = resolve(self, path)
        return self._ask("cat", at) if node and node.kind == "file" and node.size <= limit else None

    def cat(self, path: str) -> tuple[str, ...]:
        """How debugfs is called to print a file's bytes, links not followed; empty for a path it cannot be given."""
        return self._argv("cat", path)

    def _argv(self, verb: str, path: str) -> tuple[str, ...]:
        return (*self.call, "-R", f'{verb} "{path}"', self.device) if can_ask(path) else ()

    def _ask(self, verb: str, path: str) -> str:
        argv = self._argv(verb, path)
        output = self.reader.run(argv, 60.0) if argv else None
        return output.out if output else ""


class ErofsTree:
    """An erofs file system at a place in a file; `call` is how dump.erofs is called."""

    def __init__(self, reader: Reader, call: Sequence[str], image: Path, start: int) -> None:
        self.reader, self.call, self.image, self.start = reader, tuple(call), image, start

    def look(self, path: str) -> Node | None:
        out = self._ask(path)
        found = re.search(r"^Size: (\d+)\s+On-disk size: \d+\s+(\w+)", out, re.MULTILINE)
        mode = re.search(r"Access: (\d+)", out)
        if not found or not mode:
            return None
        target = self._ask(path, "--cat") if found[2] == "symlink" else ""
        return Node(_KINDS.get(found[2], "other"), int(mode[1], 8), int(found[1]), target)

    def names(self, path: str) -> tuple[str, ...]:
        lines = self._ask(path, "--ls").splitlines()
        found = (line.split(maxsplit=2)[2] for line in lines if re.match(r"\s*\d+\s+\d+\s+\S", line))
        return tuple(sorted(name for name in found if name not in (".", "..")))

    def text(self, path: str, limit: int = LIMIT) -> str | None:
        at, node = resolve(self, path)
        return self._ask(at, "--cat") if node and node.kind == "file" and node.size <= limit else None

    def cat(self, path: str) -> tuple[str, ...]:
        """See `Ext4Tree.cat`."""
        return self._argv(path, "--cat")

    def _argv(self, path: str, *options: str) -> tuple[str, ...]:
        if not can_ask(path):
            return ()
        return (*self.call, f"--offset={self.start}", f"--path={path}", *options, str(self.image))

    def _ask(self, path: str, *options: str) -> str:
        argv = self._argv(path, *options)
        output = self.reader.run(argv, 60.0) if argv else None
        return output.out if output and output.status == 0 else ""


ImageTree = Ext4Tree | ErofsTree


def tree_at(reader: Reader, call: Sequence[str], holds: str, image: Path, start: int) -> ImageTree:
    """A file system, ext4 or erofs, at a place in a file; `call` is how its program of `READERS` is called."""
    return Ext4Tree(reader, call, image, start) if holds == "ext4" else ErofsTree(reader, call, image, start)


def open_tree(reader: Reader, tools: Tools, image: ImageFile) -> Tree:
    """The root file system of an image.

    Raises:
        NotReady: it is of a kind that no tool here reads, or its path cannot be given to one.
    """
    if "?" in str(image.path):
        raise NotReady(f"{image.path}: e2fsprogs takes what follows a question mark as options",
                       hint="rename the image")
    if image.rootfs and image.rootfs.holds in READERS:
        return tree_at(reader, tools.argv(READERS[image.rootfs.holds]), image.rootfs.holds, image.path,
                       image.rootfs.start)
    raise NotReady(f"{image.path}: {image.problem}", hint=f"vmtool rootfs inspect {shell_word(image.path)}")
