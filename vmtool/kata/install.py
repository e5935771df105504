"""Putting a rendered configuration in its place."""

from __future__ import annotations

import os
from pathlib import Path

from vmtool.errors import NotReady
from vmtool.host import files
from vmtool.kata.config_choice import ETC
from vmtool.kata.facts import Target

BEFORE = ".before-vmtool"


def install_configuration(target: Target, text: str, path: Path = Path(ETC)) -> Path:
    """Write the first file that a shim looks for when nobody names one; the one before it is kept once.

    Raises:
        NotReady: the shim would read another file all the same, or it cannot be written.
    """
    shim = target.shim
    if shim and shim.environment and shim.environment != str(path):
        raise NotReady(f"KATA_CONF_FILE is {shim.environment}, so the shim would not read {path}",
                       hint=f"vmtool kata render SPEC -o {shim.environment}")
    try:
        if path.exists() and not os.path.lexists(f"{path}{BEFORE}"):
            files.write(Path(f"{path}{BEFORE}"), path.read_text(), mode=0o644)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text, mode=0o644)
    except OSError as error:
        raise NotReady(f"{error.filename or path}: {error.strerror}",
                       hint="run as root: sudo vmtool kata render SPEC --install") from error
    return path
