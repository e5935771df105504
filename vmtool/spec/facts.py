"""The spec of an instance as vmtool wrote it down when it was launched."""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import VmtoolError
from vmtool.machine import Reader
from vmtool.spec.runtime import Spec


def read_own_spec(path: Path) -> Spec:
    """The spec as vmtool wrote it down.

    Raises:
        VmtoolError: it is not there, or another version of vmtool wrote it.
    """
    try:
        return Spec.model_validate_json(path.read_text())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def find_own_spec(reader: Reader, path: Path) -> Spec | None:
    """The same for a look at a launch; None when there is none.

    Raises:
        VmtoolError: another version of vmtool wrote it, or it is damaged.
    """
    text = reader.text(str(path))
    try:
        return None if text is None else Spec.model_validate_json(text)
    except ValueError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> VmtoolError:
    return VmtoolError(f"{path} cannot be read", details=str(error).splitlines()[:5],
                       hint="vmtool run SPEC, with the file that it was launched with")
