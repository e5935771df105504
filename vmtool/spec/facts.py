"""The spec of an instance as vmtool wrote it down when it was launched."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from vmtool.errors import VmtoolError
from vmtool.spec.runtime import Spec


def read_own_spec(path: Path) -> Spec:
    """The spec as vmtool wrote it down.

    Raises:
        VmtoolError: it is not there, or another version of vmtool wrote it.
    """
    try:
        return Spec.model_validate_json(path.read_text())
    except (OSError, ValidationError, ValueError) as error:
        raise VmtoolError(f"{path} cannot be read", details=str(error).splitlines()[:5],
                          hint="vmtool run SPEC, with the file that it was launched with") from error
