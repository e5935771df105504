"""Stands in for vLLM in a guest inside of an emulated machine, where torch alone takes minutes to import.

It speaks what vmtool's front asks of an engine, on its Unix socket. It has no model: whatever it is asked, it answers
with the NVIDIA devices that a process in the workload's own sandbox sees, the drivers that are bound to them, and
whether it finds the driver's own library.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import socketserver
from http.server import BaseHTTPRequestHandler
from pathlib import Path

NVIDIA = "0x10de"


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


class Answers(BaseHTTPRequestHandler):
    """/health, and one answer to every question."""

    def do_GET(self) -> None:
        self._send({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": seen()}}
        self._send({"object": "chat.completion", "choices": [choice]})

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
    """Serve on the socket that the front was told of."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--uds", required=True)
    known, _ = parser.parse_known_args()
    with socketserver.ThreadingUnixStreamServer(known.uds, Answers) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
