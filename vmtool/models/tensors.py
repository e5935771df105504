"""The header of a safetensors file, as the safetensors library judges it: no gap, no overlap, no byte too many.

8 bytes of the header's length, then JSON with each tensor's place (huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from vmtool.foreign import parse_json

# The largest header that safetensors itself reads is 100 MB; vmtool looks into less and says nothing of the rest.
LARGEST, LOOKED_INTO = 100_000_000, 32 << 20
NOT_ONE = "has a header that is not of a safetensors file"
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32,
        "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64}


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
        tensors = {name: each for name, each in parse_json(data).items() if name != "__metadata__"}
        problem, end = _places(tensors)
    except (ValueError, AttributeError, LookupError, TypeError):
        return NOT_ONE
    if problem:
        return problem
    whole = 8 + length + end
    if size < whole:
        return f"is cut off: it has {size} bytes of {whole}"
    return f"has {size - whole} bytes more than its header says" if size > whole else ""


def _places(tensors: dict[str, Any]) -> tuple[str, int]:
    """What is wrong with the places of the tensors, and where the last one ends."""
    places = sorted((int(each["data_offsets"][0]), int(each["data_offsets"][1]), name)
                    for name, each in tensors.items())
    last = 0
    for start, end, name in places:
        if start != last or end < start:
            return f"has a {'gap' if start > last else 'place used twice'} before its tensor {name[:80]!r}", 0
        last = end
        bits = BITS.get(tensors[name]["dtype"])
        if bits and math.prod(map(int, tensors[name]["shape"])) * bits // 8 != end - start:
            return f"has another size for its tensor {name[:80]!r} than its shape", 0
    return "", last
