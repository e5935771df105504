"""Actions on files."""

from __future__ import annotations

import itertools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.errors import VmtoolError
from vmtool.frozen import dataclass
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
        path = shlex.quote(str(self.path))
        # install gives the parents that it makes mode 0755.
        return f"(umask 077; mkdir -p {path}) && install -d -m {self.mode:04o} -o {self.uid} {path}"

    def do(self, host: Host) -> None:
        host.make_dir(self.path, mode=self.mode, uid=self.uid)


@dataclass(frozen=True)
class WriteFile(Action):
    """Write a file atomically: temporary file, fsync, rename. Its directory is there."""

    path: Path
    text: str
    mode: int = 0o600

    def shell(self) -> str:
        install, path = f"install -m {self.mode:04o}", shlex.quote(str(self.path))
        lines = self.text.split("\n")
        if not self.text:
            return f"{install} /dev/null {path}"
        if lines[-1]:  # a here-document ends with a line break
            return f"printf %s {shlex.quote(self.text)} | {install} /dev/stdin {path}"
        end = next(word for number in itertools.count() if (word := f"EOF{number or ''}") not in lines)
        return f"{install} /dev/stdin {path} <<'{end}'\n{self.text}{end}"

    def do(self, host: Host) -> None:
        host.write(self.path, self.text, mode=self.mode)


@dataclass(frozen=True)
class CopySecret(Action):
    """Copy a secret file to a place of mode 0400 owned by `uid`; with no `source`, make a random key, unless one is
    there."""

    path: Path
    uid: int
    source: Path | None = None

    def shell(self) -> str:
        install, path = f"install -m 0400 -o {self.uid}", shlex.quote(str(self.path))
        directory = f"(umask 077; mkdir -p {shlex.quote(str(self.path.parent))})"
        if self.source:
            return f"{directory} && {install} {shlex.quote(str(self.source))} {path}"
        return f"[ -e {path} ] || {{ {directory} && openssl rand -hex 32 | {install} /dev/stdin {path}; }}"

    def do(self, host: Host) -> None:
        if self.source:
            try:
                secret = host.read(self.source)
            except OSError as error:
                raise VmtoolError(f"{self.source}: {error.strerror}") from error
            host.write(self.path, secret, mode=0o400, uid=self.uid)
        elif not host.exists(str(self.path)):
            import secrets  # what only plans makes none

            host.write(self.path, secrets.token_hex(32) + "\n", mode=0o400, uid=self.uid)


@dataclass(frozen=True)
class Remove(Action):
    """Remove a file or a directory tree, never crossing into another mounted file system."""

    path: Path

    def shell(self) -> str:
        return f"rm -rf --one-file-system {shlex.quote(str(self.path))}"

    def do(self, host: Host) -> None:
        host.remove(self.path)
