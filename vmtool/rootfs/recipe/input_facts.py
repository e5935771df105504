"""What the files that a recipe names hold; and the digests that say what must be built again: base, driver, image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmtool.debian.tools import PACKAGES, SUITE
from vmtool.foreign import open_file
from vmtool.frozen import dataclass
from vmtool.rendering import shipped
from vmtool.rootfs.recipe.load import input_files
from vmtool.rootfs.recipe.models import Recipe

# Raised when the same recipe gives something else.
FORMAT = 2
RPM_FORMAT = 2


@dataclass(frozen=True)
class Inputs:
    """A recipe's input, as it was read once.

    Args:
        base, driver, image: digests of all that this part of the build depends on.
        files: SHA-256 of each file that goes into the image as it is.
        agent_head: the first bytes of Kata's agent; empty when the recipe has none.
        modules: the directory of the kernel's modules, by its real name; None when the recipe names none.
    """

    base: str
    driver: str
    image: str
    files: Mapping[Path, str]
    agent_head: bytes = b""
    modules: Path | None = None


def read_inputs(recipe: Recipe) -> Inputs:
    """Read every file that the recipe names."""
    agent = recipe.kata.agent if recipe.kata else None
    sources = {each.source for each in recipe.files if each.source} | ({agent} if agent else set())
    modules = recipe.kernel.modules if recipe.kernel else None
    return Inputs(base_digest(recipe), driver_digest(recipe), image_digest(recipe),
                  {path: _file_digest(path) for path in sources}, _head(agent) if agent else b"",
                  modules.resolve() if modules else None)


def base_digest(recipe: Recipe) -> str:
    """What the packages and what they were taken from depend on."""
    value = {"format": FORMAT, "arch": recipe.arch, "debian": recipe.debian, "rpm": recipe.rpm,
             "packages": recipe.packages, "exclude": recipe.exclude, "kernel": recipe.kernel, "toolkit": recipe.toolkit}
    if recipe.rpm:
        value["rpm_format"] = RPM_FORMAT
    parts = [part for part in (recipe.debian, recipe.rpm, recipe.toolkit, recipe.kernel) if part]
    return _digest(value, (file for part in parts for file in input_files(part)))


def driver_digest(recipe: Recipe) -> str:
    """What the driver depends on: its source, and the kernel, which is the base's."""
    return _digest({"base": base_digest(recipe), "driver": recipe.driver}, input_files(recipe.driver))


def image_digest(recipe: Recipe) -> str:
    """What every byte of the image depends on."""
    files = [*input_files(recipe), *sorted((shipped("templates") / "rootfs").glob("*"))]
    return _digest({"recipe": recipe, "format": FORMAT, "tools": (SUITE, *PACKAGES)}, files)


def _digest(value: dict[str, Any], files: Iterable[Path]) -> str:
    plain = json.dumps(value, sort_keys=True, default=_plain)
    return hashlib.sha256("\0".join([plain, *(_file_digest(file) for file in files)]).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Models as their values; a path by its last part, since the content is digested and the place is no input."""
    return value.model_dump(mode="python") if hasattr(value, "model_dump") else Path(value).name


def _head(path: Path) -> bytes:
    with open_file(path) as file:
        return file.read(4)


def _file_digest(path: Path) -> str:
    if path.is_dir():
        below = sorted(each for each in path.rglob("*") if each.is_file())
        return "\0".join(f"{each.relative_to(path)} {_file_digest(each)}" for each in below)
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
