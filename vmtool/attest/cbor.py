"""Decoding CBOR (RFC 8949) of tokens: only what they need, and each value in its only form.

Refused: lengths that are indefinite or not the shortest, duplicate keys, tags that were not asked for, floats and other
simple values, bytes after the end. A general decoder gives tags a meaning of its own (dates, big numbers, shared
references), which here is only a way to be attacked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vmtool.attest.appraisal import NotProven
from vmtool.attest.cursor import Cursor, require

DEEPEST, MOST = 8, 4096
# Major types (RFC 8949, 3.1).
UNSIGNED, NEGATIVE, OCTETS, TEXT, ARRAY, MAP, TAG = range(7)


def decode(data: bytes, tags: tuple[int, ...] = ()) -> Any:
    """The value of one CBOR item: int, bytes, str, list or dict.

    Args:
        tags: that the item must have, the outermost first.

    Raises:
        NotProven: it is another, malformed, or not in its shortest form.
    """
    cursor = Cursor(data, "CBOR", "big")
    for tag in tags:
        major, value = _head(cursor)
        require((major, value) == (TAG, tag), f"not CBOR with tag {tag}")
    items = _Items(cursor)
    found = items.read(0)
    cursor.end()
    return found


def encode_octets(data: bytes, major: int = OCTETS) -> bytes:
    """A byte string, or a text of these bytes."""
    size = len(data)
    if size < 24:
        return bytes((major << 5 | size,)) + data
    width = next(width for width in range(4) if size < 1 << (8 << width))
    return bytes((major << 5 | 24 + width,)) + size.to_bytes(1 << width, "big") + data


def _head(cursor: Cursor) -> tuple[int, int]:
    """Major type and argument of the next item."""
    first = cursor.number(1)
    short = first & 31
    if short < 24:
        return first >> 5, short
    require(short < 28, "CBOR with an indefinite or reserved length")
    width = 1 << short - 24
    value = cursor.number(width)
    require(value >= (24 if width == 1 else 1 << 4 * width), "a CBOR length is not in its shortest form")
    return first >> 5, value


class _Items:
    """The items of one document, counted."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.count = 0
        self.readers: dict[int, Callable[[int, int], Any]] = {
            UNSIGNED: lambda value, depth: value, NEGATIVE: lambda value, depth: -1 - value,
            OCTETS: lambda value, depth: cursor.take(value), TEXT: lambda value, depth: cursor.take(value).decode(),
            ARRAY: lambda value, depth: [self.read(depth + 1) for _ in range(self._bounded(value))], MAP: self._map}

    def read(self, depth: int) -> Any:
        """The next item."""
        self.count += 1
        require(depth <= DEEPEST and self.count <= MOST, "CBOR with too many or too deep items")
        major, value = _head(self.cursor)
        if major not in self.readers:
            raise NotProven("CBOR with a tag or a simple value where none belongs")
        return self.readers[major](value, depth)

    def _bounded(self, count: int) -> int:
        require(count <= self.cursor.left(), "CBOR ends in the middle")
        return count

    def _map(self, count: int, depth: int) -> dict[int | str, Any]:
        found: dict[int | str, Any] = {}
        for _ in range(self._bounded(count)):
            key = self.read(depth + 1)
            require(type(key) in (int, str), "a CBOR key is neither number nor text")
            require(key not in found, f"the CBOR key {str(key)[:40]!r} occurs twice")
            found[key] = self.read(depth + 1)
        return found
