"""Published ports: which address and port of the host lead to which port of a container."""

from __future__ import annotations

import ipaddress
import re

from vmtool.frozen import dataclass

LOOPBACK = "127.0.0.1"
_FORM = re.compile(r"(?:(?:(?P<ip>[^:/]*):)?(?P<host>[0-9]+):)?(?P<container>[0-9]+)(?:/(?P<protocol>\w+))?")


@dataclass(frozen=True)
class Publish:
    """One published port.

    Args:
        host_ip: IPv4 address of the host; 0.0.0.0 means every address, 127.0.0.1 (the default) none but loopback.
        protocol: "tcp" or "udp".
    """

    host_port: int
    container_port: int
    host_ip: str = LOOPBACK
    protocol: str = "tcp"

    @classmethod
    def parse(cls, text: str) -> Publish:
        """Read `PORT`, `HOST:CONTAINER` or `IP:HOST:CONTAINER`, each with an optional `/udp`.

        Raises:
            ValueError: it is none of these; the message says what is wrong with it.
        """
        match = _FORM.fullmatch(text.strip())
        if not match:
            raise ValueError(f"{text!r} is not PORT, HOST:CONTAINER or IP:HOST:CONTAINER")
        container = _port(match["container"])
        protocol = match["protocol"] or "tcp"
        if protocol not in ("tcp", "udp"):
            raise ValueError(f"{text!r}: the protocol is tcp or udp, not {protocol!r}")
        host_ip = _address(LOOPBACK if match["ip"] is None else match["ip"])
        return cls(_port(match["host"] or match["container"]), container, host_ip, protocol)

    def __str__(self) -> str:
        return f"{self.host_ip}:{self.host_port}:{self.container_port}" + ("/udp" if self.protocol == "udp" else "")

    @property
    def loopback(self) -> bool:
        """Whether only the host itself can reach it."""
        return ipaddress.IPv4Address(self.host_ip).is_loopback

    def overlaps(self, ip: str, port: int, protocol: str) -> bool:
        """Whether it wants a port that `ip` (0.0.0.0, :: and * mean all addresses) has."""
        everything = ("0.0.0.0", "::", "*")  # noqa: S104  (compared, not bound)
        same = ip == self.host_ip or ip in everything or self.host_ip in everything
        return same and (port, protocol) == (self.host_port, self.protocol)


def _port(text: str) -> int:
    if not 1 <= int(text[:6]) <= 65535:
        raise ValueError(f"{text[:8]} is not a port: ports are 1 to 65535")
    return int(text)


def _address(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv4 address") from None
