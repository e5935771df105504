"""Unit tests touch no process, no socket and no real /sys or /proc: what tries, fails."""

from __future__ import annotations

import builtins
import io
import os
import socket
import subprocess
import sys
from typing import Any, NoReturn

import prometheus_client  # noqa: F401  (reads /proc/stat when it is imported, before that is refused)
import pytest

from vmtool.cli import main
from vmtool.host import files
from vmtool.host.local import LocalMachine

KERNEL = ("/sys/", "/proc/")


@pytest.fixture(autouse=True)
def no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> NoReturn:
        raise AssertionError(f"a unit test must not start a process or open a connection: {args!r}")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(os, "system", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.setattr(os, "_exit", sys.exit)  # it would end the tests, in silence
    monkeypatch.setattr(main, "isolate", lambda: None)  # it would clean the environment of the tests
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(LocalMachine, "names", _without_processes(LocalMachine.names))
    monkeypatch.setattr(builtins, "open", _guarded(builtins.open))
    monkeypatch.setattr(io, "open", _guarded(io.open))
    monkeypatch.setattr(os, "open", _guarded(os.open))


def _without_processes(real: Any) -> Any:
    """No process is found on the machine that runs the tests."""
    def names(self: LocalMachine, path: str) -> Any:
        return () if path == "/proc" else real(self, path)

    return names


def _guarded(real: Any) -> Any:
    def guarded(file: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(file, str | os.PathLike) and os.fspath(file).startswith(KERNEL):
            raise AssertionError(f"a unit test must not read {file}")
        return real(file, *args, **kwargs)

    return guarded


@pytest.fixture(autouse=True)
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is mounted, unless a test appends a mount point."""
    points: list[str] = []
    monkeypatch.setattr(files, "mount_points", lambda: points)
    return points
