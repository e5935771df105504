"""The runtimes in containerd's configuration file and in what it imports; Kubernetes chooses among them."""

from __future__ import annotations

import fnmatch
import posixpath
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vmtool.machine import Reader

MAIN = "/etc/containerd/config.toml"
# The CRI plugin's name in containerd 1.x (configuration version 2) and 2.x (version 3).
CRI = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")


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


def read_runtimes(reader: Reader) -> Iterator[ContainerdRuntime]:
    """Every runtime, file by file. A file that is no TOML has none: containerd itself would not start with it."""
    main = _toml(reader, MAIN)
    for source, document in ((MAIN, main), *((path, _toml(reader, path)) for path in _imports(reader, main))):
        for plugin in CRI:
            for name, table in _table(document, "plugins", plugin, "containerd", "runtimes").items():
                if isinstance(table, dict):
                    yield ContainerdRuntime(name, str(table.get("runtime_type", "")), source,
                                            _text(table.get("runtime_path")),
                                            _text(_table(table, "options").get("ConfigPath")))


def _imports(reader: Reader, main: dict[str, Any]) -> Iterator[str]:
    """The files that the patterns of `imports` match; relative ones are relative to the main file."""
    patterns = main.get("imports", [])
    for pattern in patterns if isinstance(patterns, list) else []:
        directory, name = posixpath.split(posixpath.join(posixpath.dirname(MAIN), str(pattern)))
        yield from (f"{directory}/{entry}" for entry in reader.names(directory) if fnmatch.fnmatchcase(entry, name))


def _toml(reader: Reader, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(reader.text(path) or "")
    except tomllib.TOMLDecodeError:
        return {}


def _table(value: Any, *path: str) -> dict[str, Any]:
    for key in path:
        value = value.get(key, {}) if isinstance(value, dict) else {}
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
