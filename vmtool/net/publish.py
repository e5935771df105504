"""Ports that a container publishes on the host."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class Publish:
    """A host address and port that lead to a container's port."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"

    @classmethod
    def parse(cls, text: str) -> Publish:
        """Read PORT, HOST:CONTAINER or IP:HOST:CONTAINER (IPv4); the host address is 127.0.0.1 unless named.

        Raises:
            ValueError: it is neither, or a port is not in 1..65535.
        """
        parts = text.split(":")
        ports = [int(part) if part.isdecimal() and len(part) <= 5 else 0 for part in parts[-2:]]
        if len(parts) > 3 or not all(1 <= port <= 65535 for port in ports):
            raise ValueError(f"{text!r} publishes nothing: write PORT, HOST:CONTAINER or IP:HOST:CONTAINER")
        host_ip = parts[0] if len(parts) == 3 else "127.0.0.1"
        try:
            ipaddress.IPv4Address(host_ip)
        except ValueError as error:
            raise ValueError(f"{text!r}: {host_ip!r} is no IPv4 address") from error
        return cls(host_ip, ports[0], ports[-1])

    @property
    def loopback(self) -> bool:
        """Whether only this host reaches the port."""
        return ipaddress.IPv4Address(self.host_ip).is_loopback

    def __str__(self) -> str:
        return f"{self.host_ip}:{self.host_port}:{self.container_port}"
