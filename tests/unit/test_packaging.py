"""What is installed is all of vmtool: in a checkout nothing shows that a folder is not on the list."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
# They lie at the top level, and are installed into the package.
ELSEWHERE = {"vmtool.templates", "vmtool.images"}


def test_every_folder_is_a_package_that_is_installed() -> None:
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "vmtool").rglob("__init__.py")}
    assert set(SETUP["options"]["packages"].split()) == found | ELSEWHERE


def test_every_file_beside_the_code_is_installed_too() -> None:
    patterns = [(package.replace(".", "/"), pattern) for package, text in SETUP["options.package_data"].items()
                for pattern in re.split(r"[,\s]+", text.strip())]
    covered = {path for folder, pattern in patterns for path in (ROOT / folder).glob(pattern)}
    assert not [path for path in (ROOT / "vmtool").rglob("*") if path.is_file() and path not in covered
                and path.suffix != ".py" and "__pycache__" not in path.parts]
