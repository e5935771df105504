"""What a build needs to know about the host and about what earlier builds left."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Mapping
from pathlib import Path

from vmtool.cache import Cache, checksum
from vmtool.debian.settings import apt_options, apt_sources, build_environment
from vmtool.errors import Refused
from vmtool.facts.cpu import read_is_root
from vmtool.facts.memory import read_disk
from vmtool.facts.superseded import superseded
from vmtool.foreign import read_regular
from vmtool.frozen import dataclass
from vmtool.image.recipe import Recipe, base_digest, serving_files
from vmtool.image.wheels import compare_wheels, file_digest
from vmtool.machine import Reader
from vmtool.plan import Pairs

# A line of sha256sum(1).
MAX_CHECKSUM = 8 << 10


@dataclass(frozen=True)
class BuildFacts:
    """What is there.

    Args:
        archive: whether the image of this very input is in the cache and intact.
        stale: archives of other inputs of the recipe, its wheels that are in no lock any more, and of bases and of what
            is kept of other recipes all but the newest few.
        base: whether the Debian base is in the cache and intact.
        wheels_missing: how many locked wheels are not in the build context.
        builder: "buildah" or "docker"; empty when neither is there.
        mmdebstrap: whether it is installed.
        pip: whether vmtool's own Python has it.
        environment: settings that children get.
        sources, options: the host's apt source files and options for the base.
        free: bytes where the cache lies; None when unknown.
        serving: vmtool's own programs that the image carries.
        root: vmtool runs as root.
    """

    archive: bool
    stale: tuple[Path, ...]
    base: bool
    wheels_missing: int
    builder: str
    mmdebstrap: bool
    pip: bool
    environment: Pairs
    sources: tuple[str, ...]
    options: tuple[str, ...]
    free: int | None
    serving: tuple[Path, ...]
    root: bool


def read_build(reader: Reader, cache: Cache, recipe: Recipe, digest: str, environ: Mapping[str, str]) -> BuildFacts:
    """Look at the cache and the host.

    Raises:
        NotReady: a setting holds a password.
    """
    archive = cache.archive(recipe.name, digest)
    kept = {archive.name, checksum(archive).name}
    folder = cache.archives(recipe.name)
    missing, unlocked = compare_wheels(recipe.locks, cache.context(recipe.name) / "wheels")
    return BuildFacts(
        archive=is_intact(archive),
        stale=(*(folder / name for name in reader.names(str(folder)) if name not in kept), *unlocked,
               *superseded_parts(cache, recipe)),
        base=bool(recipe.suite) and is_intact(cache.base(base_digest(recipe))),
        wheels_missing=missing,
        builder=read_builder(reader),
        mmdebstrap=reader.which("mmdebstrap") is not None,
        pip=importlib.util.find_spec("pip") is not None,
        environment=build_environment(environ),
        sources=apt_sources(reader, recipe.suite) if recipe.suite else (),
        options=apt_options(reader) if recipe.suite else (),
        free=read_disk(reader, str(cache.root)).free,
        serving=serving_files(),
        root=read_is_root(reader),
    )


def superseded_parts(cache: Cache, recipe: Recipe) -> tuple[Path, ...]:
    """Bases with their checksums, and the contexts and archives of other recipes, beyond those that were used last."""
    bases = superseded(cache.root.glob("bases/*.tar"), {cache.base(base_digest(recipe))})
    own = {cache.context(recipe.name), cache.archives(recipe.name)}
    others = (superseded(folder.parent.glob("*"), own) for folder in sorted(own))
    return (*(path for base in bases for path in (base, checksum(base))), *itertools.chain.from_iterable(others))


def read_builder(reader: Reader) -> str:
    """buildah, or docker when its engine answers and has buildx."""
    if reader.which("buildah"):
        return "buildah"
    if reader.which("docker"):
        answers = [reader.run(("docker", *words)) for words in (("info",), ("buildx", "version"))]
        if all(answer and answer.status == 0 for answer in answers):
            return "docker"
    return ""


def is_intact(file: Path) -> bool:
    """Whether the file has the SHA-256 that is next to it, as sha256sum(1) wrote it."""
    try:
        wanted = read_regular(checksum(file), MAX_CHECKSUM).decode(errors="replace").split()
        return bool(wanted) and wanted[0] == file_digest(file)
    except (OSError, Refused):
        return False
