"""A stand-in for vLLM that dies as it is told, and leaves a process behind when it is killed, as vLLM's workers may be.

It is put where the entrypoint looks for vLLM. Files in the model's directory tell it what to do: `ends` has the exit
status with which it ends instead of listening.
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Answers(BaseHTTPRequestHandler):
    """200 to everything; a POST to /v1/completions with `{"exit": N}` ends it.

    When its worker has died it lives on and says 503, as vLLM does for some seconds.
    """

    worker: subprocess.Popen[bytes]

    def do_GET(self) -> None:
        self._send({"pid": os.getpid()}, 200 if self.worker.poll() is None else 503)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if "exit" in asked:
            os._exit(int(asked["exit"]))
        self._send({"pid": os.getpid()})

    def address_string(self) -> str:
        return "front"

    def log_message(self, *words: object) -> None:
        pass

    def _send(self, document: dict[str, object], status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--model", type=Path, required=True)
    known, _ = parser.parse_known_args()
    ends = known.model / "ends"
    if ends.exists():
        print("the last words of a server", file=sys.stderr, flush=True)
        os._exit(int(ends.read_text()))
    # In a session of its own: a signal to the engine's does not reach it.
    worker = Answers.worker = subprocess.Popen(["sleep", "3600"], start_new_session=True, stdin=subprocess.DEVNULL)
    (known.model / "workers").open("a").write(f"{worker.pid}\n")
    (known.model / "engine.new").write_text(str(os.getpid()))
    (known.model / "engine.new").rename(known.model / "engine")
    with socketserver.ThreadingUnixStreamServer(known.uds, Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
