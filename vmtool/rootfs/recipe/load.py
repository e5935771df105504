"""Finding and reading a guest image's recipe.yaml: all mistakes are reported together, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmtool import documents
from vmtool.errors import Refused
from vmtool.paths import NAME
from vmtool.rendering import shipped
from vmtool.rootfs.recipe.models import Recipe
from vmtool.schema import Strict
from vmtool.spec.load import validated


def find_rootfs_recipe(name: str) -> Path:
    """The recipe.yaml of a plain name, which is one below images/, whatever lies where a person stands; else of a
    directory, or a file.

    Raises:
        Refused: there is none.
    """
    place = shipped("images") / name if NAME.fullmatch(name) else Path(name)
    for path in (place, place / "recipe.yaml"):
        if path.is_file():
            return path.resolve()
    names = sorted(path.parent.name for path in shipped("images").glob("rootfs-*/recipe.yaml"))
    raise Refused(f"{name}: no recipe, neither {place} nor a recipe.yaml in it; a path has a /, such as ./{place.name}",
                  hint=f"vmtool rootfs build {' | '.join(names)}")


def read_rootfs_recipe(path: Path, *, arch: str = "") -> Recipe:
    """Read a recipe.

    Args:
        arch: in the place of the recipe's own.

    Raises:
        Refused: every mistake at once; or files that it names are missing.
    """
    document = documents.read(path)
    if not isinstance(document.value, dict):
        raise Refused(f"{path}: not a mapping", hint="compare it with images/rootfs-minimal/recipe.yaml")
    recipe = validated(document, Recipe, {"arch": arch} if arch else {})
    recipe = Recipe.model_construct(**{name: anchored(item, path.parent) for name, item in recipe})
    if missing := [f"{path}: {file}: {_why_not(file)}" for file in input_files(recipe) if _why_not(file)]:
        raise Refused(f"{recipe.name}: files that the recipe names are missing", details=missing,
                      hint="paths are relative to the recipe's directory")
    return recipe


def anchored(value: Any, directory: Path) -> Any:
    """The model with every path of the build host's made absolute."""
    if isinstance(value, Path):
        return directory / value.expanduser()
    if isinstance(value, tuple):
        return tuple(anchored(item, directory) for item in value)
    if isinstance(value, Strict):
        return value.model_copy(update={name: anchored(item, directory) for name, item in value})
    return value


def input_files(value: Any) -> list[Path]:
    """Every file and directory of the build host's that the recipe names."""
    if isinstance(value, Path):
        return [value]
    items = value if isinstance(value, tuple) else [item for _, item in value] if isinstance(value, Strict) else []
    return [path for item in items for path in input_files(item)]


def _why_not(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return "a link that leads nowhere"
    return "" if path.exists() else "no such file"
