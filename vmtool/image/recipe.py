"""recipe.yaml: what an image is made of, read strictly, and the digest that shows when it must be built again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vmtool import documents
from vmtool.architecture import KNOWN
from vmtool.errors import Refused
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.paths import NAME
from vmtool.quantity import parse_size_with_unit
from vmtool.rendering import shipped

# Raised when build.py makes something else out of the same recipe.
FORMAT = 1
# Of a build whose recipe does not say: a Debian base three times, and what a few instructions add.
SPACE = 1 << 30
# Of a Containerfile or a lock.
MAX_FILE = 64 << 20
SERVING = Path(__file__).resolve().parents[1] / "serving"
# Platforms as OCI names them.
PLATFORMS = {f"linux/{each.debian}": each for each in KNOWN}
PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")


@dataclass(frozen=True)
class Recipe:
    """How an image is made.

    Args:
        directory: with the Containerfile and the *.lock files.
        suite, packages: the Debian base; empty when `upstream` is the base.
        upstream: name of an image in a registry that is the base; its digest must be given to the build.
        platform: such as linux/amd64.
        python: version of the Python in the base, such as "3.11"; empty when no wheels are installed.
        indexes: (lock file, package index) where pip's own settings may not know one that has these wheels.
        space: bytes that a build takes in the cache.
    """

    name: str
    directory: Path
    suite: str
    packages: tuple[str, ...]
    upstream: str
    platform: str
    python: str
    indexes: tuple[tuple[str, str], ...] = ()
    space: int = SPACE

    @property
    def reference(self) -> str:
        """The image's name without a tag, in containerd's full form."""
        return f"docker.io/vmtool/{self.name}"

    @property
    def locks(self) -> tuple[Path, ...]:
        return tuple(sorted(self.directory.glob("*.lock")))


def find_recipe(name: str) -> Path:
    """The directory of a recipe: a plain name is one below images/, whatever lies where a person stands; else a path.

    Raises:
        Refused: there is no recipe.yaml.
    """
    place = shipped("images") / name if NAME.fullmatch(name) else Path(name)
    if not (place / "recipe.yaml").is_file():
        names = sorted(path.parent.name for path in shipped("images").glob("*/Containerfile"))
        raise Refused(f"{name}: no recipe: there is no {place / 'recipe.yaml'}; a path has a /, such as ./{place.name}",
                      hint=f"vmtool image build {' | '.join(names)}")
    return place.resolve()


def read_recipe(directory: Path) -> Recipe:
    """Read recipe.yaml.

    Raises:
        Refused: with every problem and its line.
    """
    document = documents.read(directory / "recipe.yaml")
    value = document.value if isinstance(document.value, dict) else {}
    found = dict(_problems(value)) | document.problems
    problems = [f"{document.where(place)}: {text}" for place, text in found.items()]
    problems += [f"{directory / name}: missing" for name in _needed(value) if not (directory / name).is_file()]
    if problems:
        raise Refused(f"{document.path} is not a recipe that can be built", details=problems,
                      hint=f"compare it with {shipped('images') / 'vllm-cpu' / 'recipe.yaml'}")
    base = value["base"]
    return Recipe(value["name"], directory, base.get("suite", ""), tuple(base.get("packages", ())),
                  base.get("upstream", ""), value["platform"], value.get("python", ""),
                  tuple(value.get("indexes", {}).items()), parse_size_with_unit(value.get("space", f"{SPACE >> 30}Gi")))


def base_digest(recipe: Recipe) -> str:
    """What the Debian base depends on, as a SHA-256 in hexadecimal."""
    return _digest({"format": FORMAT, "suite": recipe.suite, "packages": recipe.packages, "platform": recipe.platform,
                    "python": recipe.python})


def serving_files() -> tuple[Path, ...]:
    """vmtool's own programs that an image carries, the table of vLLM's options that they read, and what makes them
    known to vLLM as a plugin."""
    return tuple(sorted((*SERVING.rglob("*.py"), *SERVING.glob("*.json"), *SERVING.glob("plugins/*.dist-info/*"))))


def input_digest(recipe: Recipe, upstream_digest: str = "") -> str:
    """What the image depends on, as a SHA-256 in hexadecimal: the recipe and the content of every file used."""
    files = [recipe.directory / "Containerfile", *recipe.locks, *serving_files()]
    content = {path.name if path.parent == recipe.directory else str(path.relative_to(SERVING.parent)):
               hashlib.sha256(read_regular(path, MAX_FILE)).hexdigest() for path in files}
    made_of = {name: value for name, value in asdict(recipe).items() if name != "space"}
    return _digest({"format": FORMAT, **made_of, "directory": "", "upstream_digest": upstream_digest, "files": content})


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _needed(value: dict[str, Any]) -> tuple[str, ...]:
    return ("Containerfile", *(("requirements.lock", "pip.lock") if value.get("python") else ()))


def _problems(value: dict[str, Any]) -> Iterator[tuple[documents.Place, str]]:
    known = ("kind", "name", "base", "platform", "python", "indexes", "space")
    for key in value:
        if key not in known:
            yield (key,), f"unknown key; known are {', '.join(known)}"
    if value.get("kind") != "ContainerImage":
        yield ("kind",), "must be ContainerImage"
    name = value.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield ("name",), "must be a text of 1 to 63 lower-case letters, digits and inner hyphens"
    if value.get("platform") not in PLATFORMS:
        yield ("platform",), f"must be one of {', '.join(PLATFORMS)}"
    python = value.get("python", "")
    if not isinstance(python, str) or not re.fullmatch(r"(3\.\d{1,2})?", python):
        yield ("python",), 'must be a version in quotes, such as "3.11"'
    try:
        parse_size_with_unit(value.get("space", "1Gi"))
    except ValueError as error:
        yield ("space",), str(error)
    yield from _base_problems(value.get("base"))
    yield from _index_problems(value.get("indexes", {}))


def _index_problems(indexes: Any) -> Iterator[tuple[documents.Place, str]]:
    if not isinstance(indexes, dict):
        yield ("indexes",), "must name a package index for each of some lock files"
        return
    for lock, index in indexes.items():
        if not re.fullmatch(r"[a-z0-9-]+\.lock", str(lock)):
            yield ("indexes", lock), "must be the name of a lock file, such as torch.lock"
        if not re.fullmatch(r"https://[a-z0-9.-]+(/[\w.-]+)*", str(index)):
            yield ("indexes", lock), "must be an https:// address without a user, a password or a query"


def _base_problems(base: Any) -> Iterator[tuple[documents.Place, str]]:
    if not isinstance(base, dict) or set(base) not in ({"suite", "packages"}, {"upstream"}):
        yield ("base",), "must have either suite and packages, or upstream"
        return
    if "upstream" in base:
        if not re.fullmatch(r"[a-z0-9.-]+(/[a-z0-9._-]+)+", str(base["upstream"])):
            yield ("base", "upstream"), "must be an image's name with its registry and without tag or digest"
        return
    if not re.fullmatch(r"[a-z]+", str(base["suite"])):
        yield ("base", "suite"), "must be the code name of a Debian release"
    packages = base["packages"]
    if not isinstance(packages, list) or not packages:
        yield ("base", "packages"), "must be a list of Debian packages"
        return
    for index, package in enumerate(packages):
        if not isinstance(package, str) or not PACKAGE.fullmatch(package):
            yield ("base", "packages", index), f"{package!r} is not a valid Debian package name"
