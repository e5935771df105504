"""The runtimes of containerd's configuration; Kubernetes chooses among them.

containerd itself is asked: which tables of a file count follows from its `version` line, and from containerd's own.
"""

from __future__ import annotations

import fnmatch
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from vmtool.containerd.daemon_facts import MAIN, read_daemon
from vmtool.foreign import parse_toml
from vmtool.frozen import dataclass
from vmtool.machine import Reader

IMPORTED = "/etc/containerd/conf.d"
# The CRI plugin's name by the version of a configuration file, the last also for what comes after it (containerd 2.3
# has version 4); containerd ignores the others' tables.
CRI = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}


@dataclass(frozen=True)
class ContainerdRuntime:
    """A runtime of the CRI plugin.

    Args:
        name: the handler that a RuntimeClass names.
        type: such as io.containerd.runc.v2.
        source: the file that it is in.
        path: runtime_path, the shim's own path; None when containerd searches by the type.
        config_path: ConfigPath of its options; None when not set.
    """

    name: str
    type: str
    source: str
    path: str | None
    config_path: str | None


def read_runtimes(reader: Reader, words: Sequence[str] = ()) -> Iterator[ContainerdRuntime]:
    """Every runtime that containerd has with the file that the running daemon was started with. A file with which it
    would not start has none.

    Args:
        words: containerd, which takes a while to answer, is only asked when one of them is in that file, or when
            others are imported.
    """
    daemon = read_daemon(reader)
    path = daemon.config if daemon else MAIN
    exists = reader.exists(path)
    # Since 2.2 containerd reads what is dropped in there by itself, also without a main file.
    if not reader.names(IMPORTED) and not (exists and _mentions(reader, path, words)):
        return
    # One that is named has to be there.
    dumped = reader.run(("containerd", *(("--config", path) if exists else ()), "config", "dump"))
    if dumped is None:
        yield from _by_file(reader, path)
    elif dumped.status == 0:
        yield from _runtimes(parse_toml(dumped.out), path, 2)


def _mentions(reader: Reader, path: str, words: Sequence[str]) -> bool:
    """Whether the file has one of the words, or imports others; any file does when there are none."""
    text = reader.text(path) or ""
    return not words or any(word in text for word in (*words, "imports"))


def _by_file(reader: Reader, path: str) -> Iterator[ContainerdRuntime]:
    """Where containerd cannot be asked: file by file, by the rules of its `version` line."""
    main = parse_toml(reader.text(path))
    version = main.get("version", 1)
    for source, document in ((path, main), *((each, parse_toml(reader.text(each)))
                                             for each in _imports(reader, path, main))):
        yield from _runtimes(document, source, version)


def _runtimes(document: dict[str, Any], source: str, version: Any) -> Iterator[ContainerdRuntime]:
    number = document.get("version", version)
    plugin = CRI.get(min(number, max(CRI)), "") if isinstance(number, int) else ""
    for name, table in _table(document, "plugins", plugin, "containerd", "runtimes").items():
        if isinstance(table, dict):
            yield ContainerdRuntime(name, str(table.get("runtime_type", "")), source, _text(table.get("runtime_path")),
                                    _text(_table(table, "options").get("ConfigPath")))


def _imports(reader: Reader, path: str, main: dict[str, Any]) -> Iterator[str]:
    """The files that the patterns of `imports` match; relative ones are relative to the main file."""
    patterns = main.get("imports", [])
    for pattern in patterns if isinstance(patterns, list) else []:
        directory, name = posixpath.split(posixpath.join(posixpath.dirname(path), str(pattern)))
        yield from (f"{directory}/{entry}" for entry in reader.names(directory) if fnmatch.fnmatchcase(entry, name))


def _table(value: Any, *path: str) -> dict[str, Any]:
    for key in path:
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
