"""Domains of libvirt: a program of vmtool's own, since libvirt's calls can hang and a program has a deadline.

    python -m vmtool.libvirt.workers.domains URI start XML          define and start; prints the pid of its QEMU
    python -m vmtool.libvirt.workers.domains URI end NAME           destroy and undefine; harmless when there is none
    python -m vmtool.libvirt.workers.domains URI state NAME         prints running, shut off ...

With `qemu:///embed?root=DIR` libvirt runs inside this program, and needs its events handled here. The QEMU that it
starts lives on, and the next one finds it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import libvirt
except ImportError:
    sys.exit("libvirt's Python binding is missing (apt-get install python3-libvirt; scripts/setup links it)")

STATES = ("no state", "running", "blocked", "paused", "shutting down", "shut off", "crashed", "suspended")
GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


@contextlib.contextmanager
def connected(uri: str) -> Iterator[Any]:
    """A connection."""
    libvirt.registerErrorHandler(lambda context, error: None, None)
    if uri.startswith("qemu:///embed"):
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_handle_events, daemon=True).start()
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


def _handle_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


def start(connection: Any, text: str) -> int:
    """Define and start a domain, and leave none behind that does not start.

    Returns:
        The pid of its QEMU.
    """
    domain = connection.defineXML(text)
    try:
        domain.create()
        return pid_of(domain.name())
    except BaseException:
        end(connection, domain.name())
        raise


def end(connection: Any, name: str) -> None:
    """Destroy and undefine. Just after the connection was opened libvirt may still be looking at what runs."""
    for wait in (0.0, 0.2, 1.0, 3.0):
        time.sleep(wait)
        try:
            domain = connection.lookupByName(name)
            with tolerating(GONE):
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN and not defined(connection, name):
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
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def pid_of(name: str) -> int:
    """The pid of a domain's QEMU, as the kernel shows its arguments."""
    from vmtool.host.local import LocalMachine
    from vmtool.qemu.processes import read_qemu

    found = read_qemu(LocalMachine(), name)
    if len(found) != 1:
        sys.exit(f"{len(found)} QEMU processes are named {name}")
    return found[0].pid


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 3 or words[1] not in ("start", "end", "state"):
        sys.exit(__doc__)
    uri, verb, subject = words
    try:
        with connected(uri) as connection:
            if verb == "start":
                text = Path(subject).read_text()
                ElementTree.fromstring(text)  # noqa: S314  (vmtool's own rendering)
                print(start(connection, text))
            elif verb == "end":
                end(connection, subject)
            else:
                print(STATES[connection.lookupByName(subject).state()[0]])
    except libvirt.libvirtError as error:
        sys.exit(f"libvirt: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
