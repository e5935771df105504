"""JSON from elsewhere, strictly: no key twice, no odd number, and each value of the type that it must have."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, NoReturn

from vmtool.attest.cursor import require


def parse_json(data: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none.
        NotProven: a key occurs twice.
    """
    return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    require(len(found) == len(pairs), "a key of the JSON evidence occurs twice")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def mapping(value: object, what: str, known: frozenset[str]) -> Mapping[str, Any]:
    """The value, which must be an object with keys of these only."""
    if not isinstance(value, dict):
        require(False, f"{what} is no object")
        raise TypeError
    unknown = sorted(value.keys() - known)
    require(not unknown, f"{what} has unknown keys: {', '.join(unknown)[:100]}")
    return value


def number(value: object, what: str, size: int) -> bytes:
    """An unsigned number as `size` little-endian bytes."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 8 * size:
        require(False, f"{what} is no number of {size} bytes")
        raise TypeError
    return value.to_bytes(size, "little")


def octets(value: object, what: str, size: int | None = None) -> bytes:
    """An array of numbers from 0 to 255."""
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item < 256 for item in value):
        require(False, f"{what} is no array of bytes")
        raise TypeError
    require(size is None or len(value) == size, f"{what} has {len(value)} bytes, not {size}")
    return bytes(value)


def text(value: object, what: str) -> str:
    """A string."""
    if not isinstance(value, str):
        require(False, f"{what} is no text")
        raise TypeError
    return value


def from_base64(value: object, what: str) -> bytes:
    """Bytes as base64 with its padding, in its one form: of the last character's bits none is left over."""
    found = text(value, what)
    data = base64.b64decode(found, validate=True)
    require(base64.b64encode(data).decode() == found, f"{what} is not base64 in its one form")
    return data


def from_hex(value: object, what: str) -> bytes:
    """Bytes as hexadecimal digits, with nothing between or around them."""
    found = text(value, what)
    require(is_hex(found), f"{what} is not hexadecimal")
    return bytes.fromhex(found)


def is_hex(found: str) -> bool:
    """Whether it is whole bytes of hexadecimal digits, at least one."""
    return bool(found) and len(found) % 2 == 0 and all(digit in "0123456789abcdefABCDEF" for digit in found)


def base64_or_hex(value: object, what: str) -> bytes:
    """Bytes as hexadecimal digits, or as base64 with its padding."""
    found = text(value, what)
    if is_hex(found):
        return bytes.fromhex(found)
    return from_base64(found, what)
