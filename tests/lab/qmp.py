"""As much of the QEMU Machine Protocol as the lab needs: commands, events, and the monitor's savevm and loadvm."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from tests.lab.cache import LabError

DEADLINE = 60.0


class Qmp:
    """A session on one socket. Events that come in between are kept until they are waited for."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = b""
        self.events: list[str] = []
        self._read(time.monotonic() + DEADLINE)       # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, deadline: float = DEADLINE, **arguments: object) -> Any:
        """Run a command and give what it returns; LabError when QEMU refuses it."""
        end = time.monotonic() + deadline
        try:
            self._socket.sendall(json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n")
        except OSError as error:
            raise LabError(f"QEMU has gone: {error}") from None
        while True:
            message = self._read(end)
            if "error" in message:
                raise LabError(f"QEMU: {name}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def monitor(self, line: str, deadline: float = 120.0) -> str:
        """Run a line of the human monitor; what it prints is an error for the commands that we use."""
        return str(self.command("human-monitor-command", deadline, **{"command-line": line})).strip()

    def wait_for(self, event: str, deadline: float) -> bool:
        """Whether the event came, before now or within `deadline` seconds."""
        end = time.monotonic() + deadline
        while event not in self.events:
            try:
                self._read(end)
            except LabError:
                return event in self.events
        return True

    def close(self) -> None:
        """End the session."""
        self._socket.close()

    def _read(self, end: float) -> dict[str, Any]:
        while b"\n" not in self._lines:
            self._socket.settimeout(max(end - time.monotonic(), 0.01))
            try:
                piece = self._socket.recv(65536)
            except OSError as error:
                raise LabError(f"QEMU's monitor did not answer: {error}") from None
            if not piece:
                raise LabError("QEMU has closed its monitor")
            self._lines += piece
        line, _, self._lines = self._lines.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message["event"])
        return message
