"""The socket of a server: bound before anything else is started, so that a port in use is reported at once."""

from __future__ import annotations

import socket


def listening_socket(address: tuple[str, int]) -> socket.socket:
    """A TCP socket bound to the address.

    The protocol is named: asyncio sets TCP_NODELAY only on connections of a socket that says IPPROTO_TCP, and without
    it each answer's second segment waits 40 ms for the peer's delayed acknowledgement.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {error.strerror}") from error
    return bound
