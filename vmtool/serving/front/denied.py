"""A request that goes no further, and what its client gets: JSON in the shape of OpenAI's errors."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
SERVER = "vmtool"


class Denied(Exception):
    """HTTP status, a sentence for the client, and headers to go with it."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})

    def response(self) -> web.Response:
        kind = KINDS.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": None, "code": self.status}
        return answer(self.status, {"error": error}, self.headers)


class Busy(Denied):
    """There is no room at the moment; OpenAI's clients try again after the seconds of the header."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, message, {"Retry-After": "1"})


def answer(status: int, document: object, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON document; the `Server` header says nothing of versions."""
    return web.Response(status=status, body=json.dumps(document).encode(), content_type="application/json",
                        headers={"Server": SERVER, **(headers or {})})
