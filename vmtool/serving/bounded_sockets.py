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
        # One that always sends never makes anybody wait.
        if (left := self.ends - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)


class BoundedTls(ssl.SSLSocket):
    """The same with TLS."""

    ends = 0.0

    def recv_into(self, *arguments: Any) -> int:
        if (left := self.ends - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        self.settimeout(left)
        return super().recv_into(*arguments)
