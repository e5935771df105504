"""Domains of libvirt, for the workers that start and end them: libvirt's calls can hang, and a worker has a deadline.

With `qemu:///embed?root=DIR` libvirt runs inside the worker, and needs its events handled here. The QEMU that it
starts lives on, and the next one finds it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from vmtool.errors import NotReady, VmtoolError
from vmtool.facts.qemu_processes import read_qemu
from vmtool.machine import Host, Reader

# virErrorNumber (libvirt, include/libvirt/virterror.h).
NO_DOMAIN, OPERATION_INVALID = 42, 55
GONE = (NO_DOMAIN, OPERATION_INVALID)


def binding() -> Any:
    """libvirt's Python binding.

    Raises:
        NotReady: it is not there.
    """
    try:
        import libvirt
    except ImportError as error:
        raise NotReady("libvirt's Python binding is missing",
                       hint="apt-get install python3-libvirt; scripts/setup links it") from error
    return libvirt


@contextlib.contextmanager
def connected(uri: str) -> Iterator[Any]:
    """A connection.

    Raises:
        VmtoolError: what libvirt says of a call within the block that failed.
    """
    libvirt = binding()
    libvirt.registerErrorHandler(lambda context, error: None, None)
    if uri.startswith("qemu:///embed"):
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_handle_events, args=(libvirt,), daemon=True).start()
    try:
        with contextlib.closing(libvirt.open(uri)) as connection:
            yield connection
    except libvirt.libvirtError as error:
        raise VmtoolError(f"libvirt: {error}") from error


def _handle_events(libvirt: Any) -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def start(connection: Any, text: str, host: Host) -> int:
    """Define and start a domain, and leave none behind that does not start.

    Returns:
        The pid of its QEMU.
    """
    domain = connection.defineXML(text)
    try:
        domain.create()
        return pid_of(host, domain.name())
    except BaseException:
        end(connection, domain.name(), host)
        raise


def end(connection: Any, name: str, host: Host) -> None:
    """Destroy and undefine. Just after the connection was opened libvirt may still be looking at what runs."""
    for wait in (0.0, 0.2, 1.0, 3.0):
        host.sleep(wait)
        try:
            domain = connection.lookupByName(name)
            with tolerating(GONE):
                domain.destroy()
            domain.undefineFlags(binding().VIR_DOMAIN_UNDEFINE_NVRAM)
        except binding().libvirtError as error:
            if error.get_error_code() == NO_DOMAIN and not defined(connection, name):
                return
            problem = error
        else:
            return
    raise problem


def defined(connection: Any, name: str) -> bool:
    """Whether there is a domain of this name, running or not."""
    return any(domain.name() == name for domain in connection.listAllDomains())


@contextlib.contextmanager
def tolerating(codes: Sequence[int]) -> Iterator[None]:
    """What libvirt says when there is nothing to do is no error."""
    try:
        yield
    except binding().libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def pid_of(reader: Reader, name: str) -> int:
    """The pid of a domain's QEMU, as the kernel shows its arguments.

    Raises:
        VmtoolError: there is none, or more than one.
    """
    found = read_qemu(reader, name)
    if len(found) != 1:
        raise VmtoolError(f"{len(found)} QEMU processes are named {name}")
    return found[0].pid
