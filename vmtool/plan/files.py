"""Actions on files."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import VmtoolError
from vmtool.plan.action import Action

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class MakeDir(Action):
    """Create a directory and its parents; `mode` is for the last one."""

    path: Path
    mode: int = 0o700
    uid: int = 0

    def shell(self) -> str:
        return f"install -d -m {self.mode:04o} -o {self.uid} {shlex.quote(str(self.path))}"

    def do(self, host: Host) -> None:
        host.make_dir(self.path, mode=self.mode, uid=self.uid)


@dataclass(frozen=True)
class WriteFile(Action):
    """Write a file atomically: temporary file, fsync, rename."""

    path: Path
    text: str
    mode: int = 0o600

    def shell(self) -> str:
        return f"install -m {self.mode:04o} /dev/stdin {shlex.quote(str(self.path))} <<'EOF'\n{self.text.rstrip()}\nEOF"

    def do(self, host: Host) -> None:
        host.write(self.path, self.text, mode=self.mode)


@dataclass(frozen=True)
class CopySecret(Action):
    """Copy a secret file to a place of mode 0400 owned by `uid`; with no `source`, make a random key."""

    path: Path
    uid: int
    source: Path | None = None

    def shell(self) -> str:
        made = f"install -m 0400 -o {self.uid} {{source}} {shlex.quote(str(self.path))}"
        if self.source:
            return made.format(source=shlex.quote(str(self.source)))
        return "openssl rand -hex 32 | " + made.format(source="/dev/stdin")

    def do(self, host: Host) -> None:
        if self.source:
            try:
                secret = host.read(self.source)
            except OSError as error:
                raise VmtoolError(f"{self.source}: {error.strerror}") from error
            host.write(self.path, secret, mode=0o400, uid=self.uid)
        elif not host.exists(str(self.path)):
            host.write(self.path, secrets.token_hex(32) + "\n", mode=0o400, uid=self.uid)


@dataclass(frozen=True)
class Remove(Action):
    """Remove a file or a directory tree, never crossing into another mounted file system."""

    path: Path

    def shell(self) -> str:
        return f"rm -rf --one-file-system {shlex.quote(str(self.path))}"

    def do(self, host: Host) -> None:
        host.remove(self.path)
