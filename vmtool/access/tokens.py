"""The file with an instance's named tokens: read, added to, and taken from, line by line; remarks stay."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import Refused, VmtoolError
from vmtool.machine import Host
from vmtool.serving.access_list import MOST_BYTES, AccessToken, parse_tokens

HINT = "correct it with an editor, then: vmtool token apply {instance}"


def read_tokens(host: Host, path: Path) -> tuple[bytes, tuple[AccessToken, ...]]:
    """The file's text, and what it says; without a file there are none.

    Raises:
        VmtoolError: a line is no token's.
    """
    piece = host.piece(str(path), 0, MOST_BYTES + 1)
    if piece is None:
        return b"", ()
    if piece.size and not piece.data:
        raise VmtoolError(f"{path}: cannot be read, or is no file")
    try:
        return piece.data, parse_tokens(piece.data, str(path))
    except ValueError as error:
        raise VmtoolError(str(error), hint=HINT.format(instance=path.parent.name)) from None


def added(text: bytes, tokens: tuple[AccessToken, ...], new: AccessToken) -> bytes:
    """The text with one token more.

    Raises:
        Refused: its name or its limits are wrong, or the name is there.
    """
    if any(token.name == new.name for token in tokens):
        raise Refused(f"there is a token {new.name!r} already", hint="choose another name, or revoke that one first")
    whole = text if not text or text.endswith(b"\n") else text + b"\n"
    whole += f"{new.line()}\n".encode()
    try:
        parse_tokens(whole, "the list")
    except ValueError as error:
        raise Refused(f"{error}") from None
    return whole


def without(text: bytes, tokens: tuple[AccessToken, ...], name: str) -> bytes:
    """The text without a token.

    Raises:
        Refused: there is none of that name.
    """
    if all(token.name != name for token in tokens):
        raise Refused(f"there is no token {name!r}", hint=f"there are: {', '.join(t.name for t in tokens) or 'none'}")
    return b"".join(line for line in text.splitlines(keepends=True)
                    if line.split()[:2] != [b"token", name.encode()])
