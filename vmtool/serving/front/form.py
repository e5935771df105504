"""What of a request and of an answer goes on, and in which form a request must come."""

from __future__ import annotations

from collections.abc import Iterable

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from vmtool.serving.front.denied import SERVER, Denied

VERSIONS = ((1, 0), (1, 1))
# What vLLM reads; nothing else of a request's headers goes on.
PASSED_ON = ("Content-Type", "Accept", "X-Request-Id")
# What concerns one connection only, and what the front says by itself.
NOT_PASSED_BACK = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "date", "server",
})


def check_form(request: web.BaseRequest) -> None:
    """What two servers might read in two ways goes no further.

    Raises:
        Denied: it is no plain request.
    """
    headers = request.headers
    if request.version not in VERSIONS or request.method == "CONNECT" or (
            headers.get("Upgrade", "").lower() == "websocket"):
        raise Denied(400, "only plain requests of HTTP/1.1 are served")
    if not request.raw_path.startswith("/"):
        raise Denied(400, "the request line must hold a path")
    if "Transfer-Encoding" in headers and (
            headers["Transfer-Encoding"].lower() != "chunked" or request.version < (1, 1)):
        raise Denied(400, "the only transfer encoding is chunked")
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Denied(415, "compressed bodies are not taken")


async def go_on(request: web.BaseRequest) -> None:
    """The client may have asked whether its body is wanted; now it is."""
    expected = request.headers.get("Expect", "").lower()
    if expected and expected != "100-continue":
        raise Denied(417, "the only expectation is 100-continue")
    if expected and request.version >= (1, 1):
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


def passed_on(headers: CIMultiDictProxy[str], names: Iterable[str] = PASSED_ON) -> dict[str, str]:
    """What of a request's headers vLLM sees.

    Raises:
        Denied: one of them is not plain text.
    """
    passed = {name: headers[name] for name in names if name in headers}
    for name, value in passed.items():
        if not (value.isascii() and value.isprintable()):
            raise Denied(400, f"{name} must be plain ASCII")
    return passed


def passed_back(headers: Iterable[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    """What of the answer's headers the client sees."""
    kept: CIMultiDict[str] = CIMultiDict()
    named: list[str] = []
    for name, value in headers:
        lowered, text = name.decode("latin-1").lower(), value.decode("latin-1")
        if lowered == "connection":
            named = [word.strip().lower() for word in text.split(",")]
        elif lowered not in NOT_PASSED_BACK:
            kept.add(lowered, text)
    for each in named:
        kept.popall(each, None)
    kept["Server"] = SERVER
    return kept
