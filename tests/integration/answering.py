"""A server on loopback that answers every question with the same bytes, whatever they are."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.machine import Vmtool

RECORD = Path(__file__).parents[1] / "data" / "instances" / "runc" / "instance.json"
JOURNAL = Path(__file__).parents[1] / "data" / "journals" / "launch-runc.jsonl"


def whole(finish: str | None = "stop", **message: object) -> bytes:
    """A chat completion."""
    return json.dumps({"object": "chat.completion", "choices": [
        {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}]}).encode()


def event(finish: str | None = None, **delta: object) -> bytes:
    """One event of a chat completion's stream."""
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [
        {"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


@contextlib.contextmanager
def answering(pieces: Iterable[bytes], kind: str, status: int = 200, length: int | None = None,
              head: bytes = b"") -> Iterator[int]:
    """The server's port, while it answers every POST with these bytes; they end with the connection unless `length`
    announces how many there are. `head` is all that comes before them, in place of an honest server's headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            if head:
                self.wfile.write(head)
            else:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                if length is not None:
                    self.send_header("Content-Length", str(length))
                self.end_headers()
            with contextlib.suppress(OSError):  # whoever asked may have had enough
                for piece in pieces:
                    self.wfile.write(piece)

        def log_message(self, format: str, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def instance(state: Path, port: int) -> Vmtool:
    """vmtool with an instance "a" that runs (as this very process) and is reached at the port."""
    directory = state / "instances" / "a"
    (directory / "secret").mkdir(parents=True)
    (directory / "secret" / "api-key").write_text("a-key-of-16-bytes\n")
    (directory / "instance.json").write_text(json.dumps(json.loads(RECORD.read_text()) | {"port": port}))
    (directory / "journal.jsonl").write_bytes(JOURNAL.read_bytes())
    (directory / "container.pid").write_text(f"{os.getpid()} {start_time()}")
    return Vmtool(state)


def start_time() -> str:
    """This process's, as the kernel counts."""
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
