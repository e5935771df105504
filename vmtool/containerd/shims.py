"""containerd's shims: root's processes, one for each container. Any user can start a program with such arguments, and
so can whoever is root in a container."""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterator

from vmtool.facts.process import is_nested, user_of
from vmtool.machine import Reader


def read_shims(reader: Reader, name: str, namespace: str, sockets: set[str]) -> list[int]:
    """The shims of this container, of one of these containerds, of whatever runtime; by pid."""
    return sorted(_shims(reader, name, namespace, sockets))


def _shims(reader: Reader, name: str, namespace: str, sockets: set[str]) -> Iterator[int]:
    for pid in (int(entry) for entry in reader.names("/proc") if entry.isdecimal()):
        argv = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0")
        if (not posixpath.basename(argv[0]).startswith("containerd-shim") or user_of(reader, pid) != 0
                or is_nested(reader, pid)):
            continue
        pairs = set(itertools.pairwise(argv))
        if {("-id", name), ("-namespace", namespace)} <= pairs and any(("-address", one) in pairs for one in sockets):
            yield pid
