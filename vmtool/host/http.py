"""HTTP requests, bounded in time and size; proxies of the environment are not asked."""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from collections.abc import Iterator, Mapping

MAX_ANSWER = 1 << 20
MAX_LINE = 1 << 20


def request(method: str, url: str, headers: Mapping[str, str], body: bytes | None, deadline: float) -> tuple[int, str]:
    """Status and text; status 0 and the reason when there is no answer. `deadline` seconds are for each wait."""
    try:
        with _sent(method, url, headers, body, deadline) as reply:
            return reply.status, reply.read(MAX_ANSWER).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, str(error) or type(error).__name__


@contextlib.contextmanager
def stream(method: str, url: str, headers: Mapping[str, str], body: bytes | None,
           deadline: float) -> Iterator[tuple[int, Iterator[str]]]:
    """Status and lines, as they come.

    Raises:
        OSError: there is no answer, or it broke off.
    """
    try:
        with _sent(method, url, headers, body, deadline) as reply:
            yield reply.status, _lines(reply)
    except http.client.HTTPException as error:
        raise ConnectionError(str(error) or type(error).__name__) from error


def _lines(reply: http.client.HTTPResponse) -> Iterator[str]:
    while line := reply.readline(MAX_LINE):
        yield line.decode(errors="replace").rstrip("\r\n")


@contextlib.contextmanager
def _sent(method: str, url: str, headers: Mapping[str, str], body: bytes | None,
          deadline: float) -> Iterator[http.client.HTTPResponse]:
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=deadline)
    try:
        connection.request(method, place.path, body, dict(headers))
        yield connection.getresponse()
    finally:
        connection.close()
