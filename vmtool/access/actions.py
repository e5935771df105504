"""Putting together the list of who may ask."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.access.tokens import read_tokens
from vmtool.plan.action import Action
from vmtool.serving.access_list import digest_of

if TYPE_CHECKING:
    from vmtool.machine import Host


@dataclass(frozen=True)
class WriteAccess(Action):
    """Put together what is handed over: the API keys, the named tokens, and the digest of the manager's key.

    Args:
        key: file with the API keys; tokens: file with the named tokens, which need not be there.
        manager: file with the key of whoever may change the list.
        path: the file that is written.
    """

    key: Path
    tokens: Path
    manager: Path
    path: Path

    def shell(self) -> str:
        key, tokens, manager, path = (shlex.quote(str(each)) for each in (
            self.key, self.tokens, self.manager, self.path))
        digest = f"$(head -n 1 {manager} | tr -d '\\n' | sha256sum | cut -d ' ' -f 1)"
        return (f"{{ awk 1 {key}; [ ! -e {tokens} ] || awk 1 {tokens}; echo manager sha256:{digest}; }} | "
                f"install -m 0400 /dev/stdin {path}")

    def do(self, host: Host) -> None:
        text, _ = read_tokens(host, self.tokens)
        digest = digest_of(host.read(self.manager).splitlines()[0])
        lines = [*_lines(host.read(self.key)), *_lines(text), b"manager sha256:" + digest.hex().encode()]
        host.write(self.path, b"".join(line + b"\n" for line in lines), mode=0o400)


def _lines(text: bytes) -> list[bytes]:
    """Split at line feeds, as awk does."""
    return text.removesuffix(b"\n").split(b"\n") if text else []
