"""An error on its way from a worker process to the vmtool that started it: one JSON document.

A worker that was ended by a signal has failed, for whoever started it: only a command's own signal interrupts it.
Class, message, details, hint and log arrive as they were; of a text beyond LARGEST characters in all, the rest is left
out, and its end says so.
"""

from __future__ import annotations

import json
from typing import Any

from vmtool import errors
from vmtool.errors import Explained, VmtoolError
from vmtool.foreign import parse_json

# Characters of all texts together.
LARGEST = 1 << 16
CUT = "... (cut)"
CLASSES: dict[str, type[VmtoolError]] = {name: found for name, found in vars(errors).items()
                                         if isinstance(found, type) and issubclass(found, VmtoolError)}


def encode_error(error: Explained) -> bytes:
    """The document; of a class that `vmtool.errors` does not have, the nearest base that it has."""
    name = next((base.__name__ for base in type(error).__mro__ if CLASSES.get(base.__name__) is base), "VmtoolError")
    message, hint, log, *details = _cut([error.message, error.hint, error.log, *error.details])
    document = {"error": name, "message": message, "details": details, "hint": hint, "log": log}
    # Names of files can hold what is no text (PEP 383), so this is not quite UTF-8.
    return json.dumps(document, ensure_ascii=False).encode(errors="surrogatepass")


def decode_error(report: bytes) -> VmtoolError | None:
    """The error that the document holds; None when it is no such document."""
    try:
        values: Any = parse_json(report.decode(errors="surrogatepass"))
        name, message, details, hint, log = (values.pop(key) for key in ("error", "message", "details", "hint", "log"))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None
    if values or not isinstance(details, list) or not all(isinstance(each, str)
                                                          for each in (name, message, hint, log, *details)):
        return None
    return CLASSES.get(name, VmtoolError)(message, details=details, hint=hint, log=log)


def _cut(texts: list[str]) -> list[str]:
    """The first LARGEST characters; the first three texts are there in any case, if only as their cut ends."""
    left, kept = LARGEST, list[str]()
    for text in texts:
        if left <= 0 and len(kept) >= 3:
            return [*kept, CUT]
        kept.append(text if len(text) <= max(0, left) else text[:max(0, left)] + CUT)
        # A line counts for its end as well, so that there are not endlessly many empty ones.
        left -= len(text) + 1
    return kept
