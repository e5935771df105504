"""What a CNI plugin's answer to ADD says."""

from __future__ import annotations

import ipaddress

from vmtool.errors import VmtoolError
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass


@dataclass(frozen=True)
class Address:
    """A container's place in its network.

    Args:
        ip, gateway: without prefix length; the gateway is the host's side.
        prefix: bits of the subnet.
        interface: name inside the container.
        mac: of that interface.
        host_interface: the other end of the pair, a port of the bridge.
    """

    ip: str
    gateway: str
    prefix: int
    interface: str
    mac: str
    host_interface: str


def address_of(text: str) -> Address:
    """The first IPv4 address in a CNI result (version 0.3.0 or later).

    Raises:
        VmtoolError: the text is no such result.
    """
    try:
        result = parse_json(text)
        found = next(ip for ip in result["ips"] if ipaddress.ip_interface(ip["address"]).version == 4)
        address = ipaddress.IPv4Interface(found["address"])
        inside = result["interfaces"][found["interface"]]
        ports = [item["name"] for item in result["interfaces"] if not item.get("sandbox")]
        return Address(str(address.ip), str(ipaddress.IPv4Address(found["gateway"])), address.network.prefixlen,
                       str(inside["name"]), str(inside["mac"]), str(ports[-1]))
    except (ValueError, KeyError, TypeError, IndexError, StopIteration, AttributeError) as error:
        raise VmtoolError(f"not the result of a CNI plugin: {text[:200]!r}",
                          hint="attach it again with `vmtool net reset`, or remove and start the instance") from error
