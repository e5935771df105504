"""Putting together the list of who may ask."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.access.tokens import read_tokens
from vmtool.frozen import dataclass
from vmtool.plan.action import Action
from vmtool.serving.access_list import OWN_KEY, digest_of

if TYPE_CHECKING:
    from vmtool.machine import Host


# File of a TLS directory, and what its blocks are called in the list.
ENCODED = {"certificate.pem": "certificate", "key.pem": "certificate-key", "clients.pem": "client-ca"}


@dataclass(frozen=True)
class WriteAccess(Action):
    """Put together what is handed over: the API keys, the named tokens, and the digest of the manager's key.

    Args:
        key: file with the API keys; tokens: file with the named tokens, which need not be there.
        manager: file with the key of whoever may change the list; scraper: of whoever may read the metrics.
        path: the file that is written.
        tls: directory with certificate.pem and key.pem, or with own-key when the front makes its own; and, when clients
            must have one too, clients.pem.
    """

    key: Path
    tokens: Path
    manager: Path
    scraper: Path
    path: Path
    tls: Path | None = None

    def shell(self) -> str:
        key, tokens, path = (shlex.quote(str(each)) for each in (self.key, self.tokens, self.path))
        digests = " ".join(
            f"echo {name} sha256:$(head -n 1 {shlex.quote(str(file))} | tr -d '\\n' | sha256sum | cut -d ' ' -f 1);"
            for name, file in (("manager", self.manager), ("scraper", self.scraper)))
        further = "".join(f" [ ! -e {shlex.quote(str(file))} ] || {_der(word)} {shlex.quote(str(file))};"
                          for file, word in self._encoded())
        own = f" [ ! -e {shlex.quote(str(self.tls / OWN_KEY))} ] || echo {OWN_KEY};" if self.tls else ""
        return (f"{{ awk 1 {key}; [ ! -e {tokens} ] || awk 1 {tokens}; {digests}{further}{own} }} | "
                f"install -m 0400 /dev/stdin {path}")

    def do(self, host: Host) -> None:
        text, _ = read_tokens(host, self.tokens)
        lines = [*_lines(host.read(self.key)), *_lines(text)]
        for name, path in (("manager", self.manager), ("scraper", self.scraper)):
            lines.append(f"{name} sha256:{digest_of(host.read(path).splitlines()[0]).hex()}".encode())
        for file, word in self._encoded():
            lines += _encoded(word, host.read(file)) if host.exists(str(file)) else []
        if self.tls and host.exists(str(self.tls / OWN_KEY)):
            lines.append(OWN_KEY.encode())
        host.write(self.path, b"".join(line + b"\n" for line in lines), mode=0o400)

    def _encoded(self) -> tuple[tuple[Path, str], ...]:
        return tuple((self.tls / name, word) for name, word in ENCODED.items()) if self.tls else ()


def _der(word: str) -> str:
    """awk's program for each PEM block of a file in one line."""
    return f"awk -v w={word} '/^-----END/{{print w, l}} /^-----/{{l=\"\"; next}} {{l=l $0}}'"


def _encoded(word: str, pem: bytes) -> list[bytes]:
    """Each PEM block in one line."""
    found, body = [], b""
    for line in pem.splitlines():
        if line.startswith(b"-----END"):
            found.append(f"{word} ".encode() + body)
        body = b"" if line.startswith(b"-----") else body + line
    return found


def _lines(text: bytes) -> list[bytes]:
    """Split at line feeds, as awk does."""
    return text.removesuffix(b"\n").split(b"\n") if text else []
