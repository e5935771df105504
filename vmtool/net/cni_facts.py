"""CNI's files and plugins on the host: configurations, leases, versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.machine import Reader

CONFIGURATIONS = "/etc/cni/net.d"
PLUGIN_DIRECTORIES = ("/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni")
PLUGINS = ("bridge", "host-local", "portmap", "firewall")


@dataclass(frozen=True)
class Conflist:
    """A network configuration of anybody's."""

    path: str
    name: str
    bridges: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """An address that the host-local plugin gave to a container."""

    network: str
    ip: str
    container_id: str
    path: str


@dataclass(frozen=True)
class Plugins:
    """The directory that has the plugins vmtool calls.

    Args:
        directory: empty when none of the known directories has any of them.
        missing: the needed plugins that are not there.
        versions: the CNI versions that all of them know, oldest first.
    """

    directory: str = ""
    missing: tuple[str, ...] = PLUGINS
    versions: tuple[str, ...] = ()


def read_plugins(reader: Reader) -> Plugins:
    """The plugins of the first directory that has them all, else of the one that has most."""
    directory, present = _plugins(reader)
    if not directory:
        return Plugins()
    known = [_versions(reader, argv) for argv in version_questions(reader)]
    common = set.intersection(*known)
    return Plugins(directory, tuple(name for name in PLUGINS if name not in present),
                   tuple(sorted(common, key=version_key)))


def version_questions(reader: Reader) -> tuple[tuple[str, ...], ...]:
    """The programs that say which CNI versions a plugin knows: some ten milliseconds of work for each."""
    directory, present = _plugins(reader)
    return tuple(("env", "CNI_COMMAND=VERSION", f"{directory}/{name}") for name in PLUGINS if name in present)


def _plugins(reader: Reader) -> tuple[str, set[str]]:
    present = {directory: set(PLUGINS) & set(reader.names(directory)) for directory in PLUGIN_DIRECTORIES}
    directory = max(PLUGIN_DIRECTORIES, key=lambda path: len(present[path]))
    return (directory, present[directory]) if present[directory] else ("", set())


def version_key(version: str) -> tuple[int, ...]:
    """For sorting CNI versions."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _versions(reader: Reader, argv: tuple[str, ...]) -> set[str]:
    output = reader.run(argv)
    found = _object(output.out if output else "").get("supportedVersions")
    return {str(version) for version in found} if isinstance(found, list) else set()


def read_conflists(reader: Reader) -> tuple[Conflist, ...]:
    """Every configuration in /etc/cni/net.d. A file that is none is passed over: it is nobody's network."""
    found = []
    for name in reader.names(CONFIGURATIONS):
        if name.endswith((".conf", ".conflist", ".json")):
            path = f"{CONFIGURATIONS}/{name}"
            values = _object(reader.text(path) or "")
            if values:
                bridges = tuple(str(value) for value in _all(values, "bridge") if isinstance(value, str))
                subnets = tuple(str(value) for value in _all(values, "subnet") if isinstance(value, str))
                found.append(Conflist(path, str(values.get("name", name)), bridges, subnets))
    return tuple(found)


def read_leases(reader: Reader, directory: str) -> tuple[Lease, ...]:
    """The leases below a data directory of host-local: NETWORK/IP, whose first line is the container's id."""
    found = []
    for network in reader.names(directory):
        for name in reader.names(f"{directory}/{network}"):
            path = f"{directory}/{network}/{name}"
            if name[:1].isdigit() and name.count(".") == 3:
                lines = (reader.text(path) or "").splitlines()
                found.append(Lease(network, name, lines[0].strip() if lines else "", path))
    return tuple(found)


def _all(value: Any, key: str) -> Iterator[Any]:
    """Every value of a key, however deep; without recursion, since the file is anybody's."""
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if key in item:
                yield item[key]
            todo += item.values()
        elif isinstance(item, list):
            todo += item


def _object(text: str) -> dict[str, Any]:
    try:
        values = parse_json(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
