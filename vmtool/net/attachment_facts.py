"""What an attached network namespace looks like from inside, and what the plugins said when it was attached."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.net.cni_result import Address, address_of
from vmtool.net.iproute import read_objects
from vmtool.net.network import Attachment, result_path
from vmtool.net.plugin_calls import IFNAME


@dataclass(frozen=True)
class Inside:
    """One attachment now.

    Args:
        result: what the plugins answered; None when that file is gone.
        interface: whether the namespace can be entered and has the interface.
        addresses: IPv4 addresses of the interface, in CIDR notation.
        gateways: of the default routes.
    """

    result: Address | None
    interface: bool = False
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()


def read_inside(reader: Reader, attachment: Attachment) -> Inside:
    """Look into the namespace; one that is gone has no interface."""
    result = _result(reader, Path(attachment.directory))
    links = read_objects(reader, "ip", "-n", attachment.netns, "-j", "addr", "show", "dev", IFNAME)
    routes = read_objects(reader, "ip", "-n", attachment.netns, "-j", "route", "show", "default")
    addresses = tuple(f"{item['local']}/{item['prefixlen']}" for link in links for item in link.get("addr_info", ())
                      if item.get("family") == "inet")
    return Inside(result, bool(links), addresses, tuple(str(route.get("gateway", "")) for route in routes))


def _result(reader: Reader, directory: Path) -> Address | None:
    try:
        return address_of(reader.text(str(result_path(directory))) or "")
    except VmtoolError:
        return None
