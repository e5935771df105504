"""The header of a safetensors file, as the safetensors library judges it: no gap, no overlap, no byte too many.

8 bytes of the header's length, then JSON with each tensor's place (huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from vmtool.foreign import parse_json

# The largest header that safetensors itself reads is 100 MB; vmtool looks into less and says nothing of the rest.
LARGEST, LOOKED_INTO = 100_000_000, 32 << 20
NOT_ONE = "has a header that is not of a safetensors file"
BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32,
        "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64}


def tensors_problem(start: Callable[[int, int], bytes], size: int) -> str:
    """Why a file is not a whole safetensors file; empty when it is, or cannot be known.

    Args:
        start: gives so many bytes of the file from an offset; fewer when they are not known.
        size: of the file.
    """
    length = struct.unpack("<Q", first)[0] if len(first := start(8, 0)) == 8 else 0
    if not 2 <= length <= LARGEST:
        return "is not a safetensors file"
    if 8 + length > size:
        return f"is cut off: it has {size} bytes, and its header alone {8 + length}"
    data = start(length, 8) if length <= LOOKED_INTO else b""
    if len(data) < length:
        return ""  # too large to be looked into; or a recorded host, which keeps the first bytes
    try:
        problem, end = _places(_tensors(data))
    except (ValueError, AttributeError, LookupError, TypeError):
        return NOT_ONE
    if problem:
        return problem
    whole = 8 + length + end
    if size < whole:
        return f"is cut off: it has {size} bytes of {whole}"
    return f"has {size - whole} bytes more than its header says" if size > whole else ""


def _tensors(header: bytes) -> dict[str, Any]:
    """The tensors of a header, which is in UTF-8 without a mark, and whose further words are texts.

    Raises:
        ValueError, AttributeError: it is another one.
    """
    tensors = parse_json(header.decode())
    more = tensors.pop("__metadata__", None)
    more = {} if more is None else more
    for word in (*tensors, *(word for pair in more.items() for word in pair)):
        word.encode()
    return dict(tensors)


def _places(tensors: dict[str, Any]) -> tuple[str, int]:
    """What is wrong with the places of the tensors, and where the last one ends."""
    places = sorted((start, end, name) for name, each in tensors.items()
                    for start, end in [_numbers(each["data_offsets"], 2)])
    last = 0
    for start, end, name in places:
        if start != last or end < start:
            return f"has a {'gap' if start > last else 'place used twice'} before its tensor {name[:80]!r}", 0
        last = end
        kind, shape = tensors[name]["dtype"], _numbers(tensors[name]["shape"])
        if kind not in BITS:
            return f"has a tensor {name[:80]!r} of a type that no safetensors file has, {str(kind)[:20]!r}", 0
        if _bits(shape, BITS[kind]) != 8 * (end - start):
            return f"has another size for its tensor {name[:80]!r} than its shape", 0
    return "", last


def _bits(shape: Sequence[int], each: int) -> int:
    """The bits of a tensor; of one that no file holds, some that none has."""
    bits = each
    for size in shape:
        bits *= size
        if not bits or bits >> 70:
            break
    return bits


def _numbers(values: Any, count: int | None = None) -> tuple[int, ...]:
    """A list of whole numbers that is one: neither texts nor true nor 4.0.

    Raises:
        ValueError: it is another one.
    """
    if not isinstance(values, list) or any(type(value) is not int or not 0 <= value < 1 << 64 for value in values):
        raise ValueError("not a list of whole numbers")
    if count not in (None, len(values)):
        raise ValueError("another count of numbers")
    return tuple(values)
