"""The host as a guest's own routes name it. What a guest is started with can then be the same on every network, which
matters where it is measured."""

from __future__ import annotations

import argparse
import ipaddress
from pathlib import Path

ROUTES = Path("/proc/net/route")
# The word for the gateway in place of a network.
GATEWAY = "gateway"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network(text: str) -> Network:
    """A network that peers come from: an address with its bits, or `gateway`.

    Raises:
        argparse.ArgumentTypeError, ValueError: it is neither, or there is no gateway.
    """
    return gateway(ROUTES.read_text()) if text == GATEWAY else ipaddress.ip_network(text)


def gateway(routes: str) -> Network:
    """The address of the default route's gateway (proc_pid_net(5): hexadecimal, in this machine's order)."""
    for line in routes.splitlines()[1:]:
        words = line.split()
        if len(words) > 7 and words[1] == words[7] == "00000000" and words[2] != "00000000":
            return ipaddress.ip_network(bytes.fromhex(words[2])[::-1])
    raise argparse.ArgumentTypeError("there is no default route, whose gateway it would be")
