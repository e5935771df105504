"""What an attacker sends, and what the front may take for it."""

from __future__ import annotations

import resource

from tests.integration.serving.processes import BEARER

MOST_MEMORY = 150 << 20
GET, POST = b"GET /health HTTP/1.1\r\nHost: x\r\n", b"POST /tokenize HTTP/1.1\r\nHost: x\r\n"
KEYED = POST + BEARER.encode()
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
LONG = b"X-A: " + b"a" * 4000 + b"\r\n"
FLOODS = {
    "headers": GET + LONG * 100, "one header": GET + b"X-A: " + b"a" * 400_000,
    "tiny headers": GET + b"a:b\r\n" * 80_000,
    "a target": b"GET /" + b"a" * 400_000, "blank lines": b"\r\n" * 200_000,
    "blank lines, then headers": b"\r\n\r\n" + GET + LONG * 100, "requests for the health": (GET + b"\r\n") * 10_000,
    "requests without a key": (POST + b"\r\n") * 10_000, "after an upgrade": GET + b"Upgrade: websocket\r\nConnection: "
    b"upgrade\r\n\r\n" + b"x" * 400_000, "a body": POST + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 400_000,
    "a chunk's extension": POST + CHUNKED + b"1;" + b"e" * 400_000, "trailers": POST + CHUNKED + b"0\r\n" + LONG * 100,
    "broken chunks": POST + CHUNKED + b"zz\r\n" * 100_000, "no HTTP": b"\x16\x03\x01" * 100_000,
    "keyed trailers": KEYED + CHUNKED + b"0\r\n" + LONG * 100,
    "keyed broken chunks": KEYED + CHUNKED + b"zz\r\n" * 100_000,
    "a keyed chunk's extension": KEYED + CHUNKED + b"1;" + b"e" * 400_000,
    "keyed short bodies": (KEYED + b"Content-Length: 65536\r\n\r\n") + b"x" * 65_535,
    "keyed long bodies": (KEYED + b"Content-Length: 16000000\r\n\r\n") + b"x" * 400_000,
}


def enough_descriptors() -> None:
    """An attacker has enough."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 8192), hard), hard))
