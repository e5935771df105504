"""Connections whose every wait ends at one moment: a peer that sends a byte now and then cannot hold them."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any


class BoundedSocket(socket.socket):
    """A plain connection."""

    ends = 0.0

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_left(self.ends))
        return super().recv_into(*arguments)


class BoundedTls(ssl.SSLSocket):
    """The same with TLS."""

    ends = 0.0

    def recv_into(self, *arguments: Any) -> int:
        self.settimeout(_left(self.ends))
        return super().recv_into(*arguments)


def _left(ends: float) -> float:
    """Seconds until then. A peer that always sends never makes anybody wait, so that it is looked at here."""
    if (left := ends - time.monotonic()) <= 0:
        raise TimeoutError("timed out")
    return left
