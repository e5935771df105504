"""The key agent with this process as the one that asks; with real ones: tests/integration/serving/test_key_agent.py."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmtool.serving.encrypted import agent as module
from vmtool.serving.encrypted.agent import KeyAgent


class Listening:
    """A socket to which somebody has connected."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer

    def accept(self) -> tuple[socket.socket, str]:
        return self.peer, ""


@pytest.mark.parametrize(("ended", "got"), [(False, b"keys"), (True, b"")])
def test_nobody_belongs_to_an_engine_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool,
                                                    got: bytes) -> None:
    """Its number may be anybody's; here the one who asks has it."""
    @contextlib.contextmanager
    def sealed(data: bytearray) -> Iterator[int]:
        yield server

    monkeypatch.setattr(module, "sealed", sealed)
    server, end = os.pipe()  # readable from that end's end on, as a process's descriptor is from its own
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    said: list[str] = []
    agent: Any = KeyAgent(tmp_path / "keys.sock", bytearray(b"packed"), 2, said.append, itself=True)
    agent.server, agent.held, agent.listening = os.getpid(), server, Listening(ours)
    with theirs:
        if ended:
            os.close(end)
        agent._accept()
        assert theirs.recv(16) == got
    assert any("does not belong to the engine" in line for line in said) == ended
    agent.listening = None
    agent.close()
    if not ended:
        os.close(end)
