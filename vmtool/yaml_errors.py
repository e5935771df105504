"""What is wrong with a file that is no YAML: where, why, and what helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import yaml

from vmtool.errors import Refused

# By what a text in it begins with.
ENCODINGS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
# PyYAML's words for a second document.
ANOTHER = "but found another document"


def no_yaml(path: Path, data: bytes, error: Exception, hint: str) -> Refused:
    """The error for a file that could not be read as YAML.

    Args:
        hint: what helps where the place alone does not say it.
    """
    if isinstance(error, UnicodeDecodeError):
        return Refused(f"{path}:{data[:error.start].count(10) + 1}: not text in UTF-8 (byte {error.start})",
                       hint=_converted(path, data))
    if isinstance(error, yaml.reader.ReaderError):
        hint = _converted(path, data) if data.count(0) > len(data) // 4 else hint
        return Refused(f"{path}:{data.decode()[:error.position].count(chr(10)) + 1}: not YAML: the character "
                       f"#x{error.character:04x} is not allowed", hint=hint)
    if isinstance(error, yaml.MarkedYAMLError):
        return _marked(path, error, hint)
    if isinstance(error, RecursionError):
        return Refused(f"{path}: too deeply nested values, so it is no spec", hint=hint)
    return Refused(f"{path}: not YAML: {error}", hint=hint)  # of an escape such as \\UFFFFFFFF


def _converted(path: Path, data: bytes) -> str:
    """The command that prints a file as UTF-8."""
    found = next((name for start, name in ENCODINGS.items() if data.startswith(start)), "")
    if not found and b"\0" in data[:2]:  # a letter of ASCII in UTF-16 is a zero byte and itself
        found = "UTF-16BE" if data[0] == 0 else "UTF-16LE"
    return shlex.join(("iconv", "-f", found or "ISO-8859-1", "-t", "UTF-8", str(path)))


def _marked(path: Path, error: yaml.MarkedYAMLError, hint: str) -> Refused:
    """Where the text is no YAML, with why and what helps."""
    mark, begun, problem = error.problem_mark or error.context_mark, error.context_mark, error.problem or error.context
    if begun and mark and not (mark.get_snippet() or "").strip(" ^\n"):
        mark = begun  # what has no end in the file is looked for where it begins
    line = f"{path}:{mark.line + 1}" if mark else str(path)
    details = (mark.get_snippet(indent=0) or "").splitlines() if mark else []
    if problem == ANOTHER:
        return Refused(f"{line}: a second document begins, and a file has one", details=details,
                       hint=shlex.join(("csplit", "-z", str(path), "/^---/", "{*}")))
    if mark and mark.buffer and mark.buffer[mark.pointer:mark.pointer + 1] == "\t":
        return Refused(f"{line}: a tab, where YAML takes blanks only", details=details,
                       hint=shlex.join(("expand", "-t", "2", str(path))))
    if begun and mark and begun.line < mark.line:
        details.append(f"{error.context}, which begins in line {begun.line + 1}")
    return Refused(f"{line}: not YAML: {problem}", details=details, hint=hint)
