"""Giving a front that runs its list of who may ask: what it let in and the list does not name ends."""

from __future__ import annotations

from vmtool.access.actions import WriteAccess
from vmtool.endpoint import client
from vmtool.endpoint.answers import error_text
from vmtool.errors import VmtoolError
from vmtool.instance.instance import Instance, Paths
from vmtool.machine import Host

SECONDS = 15.0


def write_access(paths: Paths, *, tls: bool) -> WriteAccess:
    """What puts the list together, as it is at that moment."""
    return WriteAccess(paths.key, paths.tokens, paths.manager, paths.scraper, paths.access,
                       paths.tls if tls else None)


def give_access(host: Host, instance: Instance) -> None:
    """Give it to the front of an instance that runs.

    Raises:
        VmtoolError: it does not answer, or does not take it; then what was in use stays in use.
    """
    paths, server = instance.paths, instance.known().managed
    write_access(paths, tls=instance.known().tls).do(host)
    address = client.address_of(host, server)
    status, text = host.request("PUT", f"{address}/access", headers=client.authorization(host, paths.manager),
                                body=host.read(paths.access), deadline=SECONDS, trust=address.trust)
    if status != 200:
        raise VmtoolError(f"{address} did not take the list: {error_text(text)}")
