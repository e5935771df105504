"""Stands in for vLLM, where torch alone takes seconds to import, or minutes in an emulated machine.

It speaks what vmtool's front asks of an engine, on its Unix socket, and runs no model: to whatever it is asked it gives
the answer that the model's canary expects. To a model without one it answers with the NVIDIA devices that a process in
the workload's own sandbox sees, the drivers that are bound to them, and whether it finds the driver's own library.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import socketserver
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

NVIDIA = "0x10de"
# While it is there, so is garbage in every answer.
GARBAGE = Path("/tmp/garbage")
PARSERS = ("hermes", "mistral", "pythonic")


def seen(devices: Path = Path("/sys/bus/pci/devices")) -> str:
    """DEVICE DRIVER of each NVIDIA device, by address."""
    found = []
    for device in sorted(devices.iterdir()):
        if (device / "vendor").read_text().strip() == NVIDIA:
            driver = (device / "driver").resolve().name if (device / "driver").exists() else "-"
            found.append(f"{(device / 'device').read_text().strip()} {driver}")
    return f"{', '.join(found) or 'no NVIDIA device'}; {library()}"


def library(name: str = "libcuda.so.1") -> str:
    """The library's name when the loader finds it and all that it needs, else what is missing."""
    try:
        ctypes.CDLL(name)
    except OSError as error:
        return str(error)
    return name


def expected(model: Path) -> str:
    """The answer that the model's canary expects; empty for a model without one."""
    file = model / "canary.json"
    return str(json.loads(file.read_text())["expect"]) if file.exists() else ""


class Answers(BaseHTTPRequestHandler):
    """/health, and one answer to every question."""

    answer = ""

    def do_GET(self) -> None:
        models: dict[str, object] = {"object": "list", "data": [{"id": "m", "object": "model"}]}
        self._send(models if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        if asked.get("stream"):
            self._stream(int(asked.get("max_tokens", 1)))
            return
        answer = "garbage" if GARBAGE.exists() else self.answer or seen()
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        self._send({"object": "chat.completion", "choices": [choice]})

    def _stream(self, count: int) -> None:
        """So many pieces of an answer, fifty a second."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for number in range(count):
            choice = {"index": 0, "delta": {"content": f"{number} "}, "finish_reason": None}
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
            time.sleep(0.02)
        self.wfile.write(b"data: [DONE]\n\n")

    def address_string(self) -> str:
        return "front"  # a Unix socket's peer has no address

    def _send(self, document: dict[str, object]) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main() -> None:
    """Serve on the socket that the front was told of. What vLLM would refuse ends it at once, as vLLM does."""
    parser = argparse.ArgumentParser(prog="api_server.py", allow_abbrev=False)
    parser.add_argument("--uds", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tool-call-parser", choices=PARSERS)
    parser.add_argument("--standin-loads", type=float, default=0.0, metavar="SECONDS")
    known, _ = parser.parse_known_args()
    Answers.answer = expected(known.model)
    time.sleep(known.standin_loads)
    with socketserver.ThreadingUnixStreamServer(known.uds, Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
