"""A libvirt that keeps its domains in memory and answers as the real one does, as far as vmtool asks."""

from __future__ import annotations

import re
from typing import Any

import libvirt

RUNNING, SHUT_OFF = 1, 5


class Failure(libvirt.libvirtError):  # type: ignore[misc]
    """An error with a code, such as libvirt.VIR_ERR_NO_DOMAIN."""

    def __init__(self, code: int, text: str = "something failed") -> None:
        Exception.__init__(self, text)
        self.err = (code, 0, text, 0, "", None, None, 0, 0)


class Domain:
    """A persistent domain; one that is undefined while it runs goes when it ends."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.connection, self.own, self.running, self.persistent = connection, name, False, True

    def name(self) -> str:
        return self.own

    def state(self) -> list[int]:
        return [RUNNING if self.running else SHUT_OFF, 0]

    def create(self) -> None:
        self.connection.calls.append(f"create {self.own}")
        if self.connection.broken:
            raise Failure(libvirt.VIR_ERR_INTERNAL_ERROR, "QEMU ended: no such file")
        self.running = True

    def destroy(self) -> None:
        self.connection.calls.append(f"destroy {self.own}")
        if self.connection.stuck:
            raise Failure(libvirt.VIR_ERR_OPERATION_TIMEOUT, "another job has the domain")
        if not self.running:
            raise Failure(libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running")
        self.running = False
        self._forget()

    def undefineFlags(self, flags: int) -> None:  # noqa: N802
        self.connection.calls.append(f"undefine {self.own}")
        if not flags & libvirt.VIR_DOMAIN_UNDEFINE_NVRAM:
            raise Failure(libvirt.VIR_ERR_OPERATION_INVALID, "cannot undefine a domain with nvram")
        self.persistent = False
        self._forget()

    def _forget(self) -> None:
        if not self.running and not self.persistent:
            self.connection.domains.pop(self.own, None)


class Connection:
    """A connection.

    Args:
        blind: how often a domain is not found by its name although it is there: just after an embedded libvirt began.
        broken: no domain starts; stuck: none ends.
    """

    def __init__(self, *, blind: int = 0, broken: bool = False, stuck: bool = False) -> None:
        self.blind, self.broken, self.stuck = blind, broken, stuck
        self.domains: dict[str, Domain] = {}
        self.calls: list[str] = []
        self.closed = False

    def holding(self, name: str, *, running: bool = True) -> Connection:
        self.domains[name] = Domain(self, name)
        self.domains[name].running = running
        return self

    def defineXML(self, text: str) -> Domain:  # noqa: N802
        found = re.search("<name>(.*)</name>", text)
        assert found
        self.holding(found[1], running=False)
        return self.domains[found[1]]

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        self.calls.append(f"lookup {name}")
        if self.blind or name not in self.domains:
            self.blind = max(self.blind - 1, 0)
            raise Failure(libvirt.VIR_ERR_NO_DOMAIN, f"no domain with matching name '{name}'")
        return self.domains[name]

    def listAllDomains(self) -> list[Any]:  # noqa: N802
        return list(self.domains.values())

    def close(self) -> None:
        self.closed = True
