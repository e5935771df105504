"""Where a server is, and what is known of it beforehand."""

from __future__ import annotations

import ipaddress
import ssl
from urllib.parse import urlsplit

from vmtool.errors import Refused
from vmtool.frozen import dataclass

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PATHS = ("", "/", "/v1", "/v1/")
PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Place:
    """A server's address.

    Args:
        vouched: whether the context knows its certificate otherwise than by evidence: by a CA or by a file.
        context: None without TLS.
    """

    host: str
    port: int
    context: ssl.SSLContext | None
    vouched: bool = False

    @property
    def authority(self) -> str:
        """For the Host header."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"http{'s' if self.context else ''}://{self.authority}"


def parse_url(url: str) -> tuple[str, str, int]:
    """Scheme, host and port.

    Raises:
        Refused: it is no address of a server, or has more than that.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
        host = (parts.hostname or "").encode("idna").decode() if ":" not in (parts.hostname or "") else parts.hostname
    except ValueError as error:
        raise Refused(f"the URL is none: {error}", hint="such as https://llm.lab:8443") from None
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL holds a name or a password, which everybody on this machine can read",
                      hint="the client's own Authorization header passes through; or --token-file FILE")
    if parts.scheme not in PORTS or not host or parts.query or parts.fragment or parts.path not in PATHS or (
            any(char.isspace() or not char.isprintable() for char in url)):
        raise Refused(f"{url[:200]!r} is neither the URL of a server nor the name of an instance",
                      hint="such as https://llm.lab:8443; the list of instances: vmtool ps")
    return parts.scheme, host, port


def is_loopback(host: str) -> bool:
    """Whether an address, or a name as it is written, is this machine alone."""
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == LOOPBACK[0]
