"""What a build needs to know about the host and about what earlier builds left."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from vmtool.architecture import BY_DEBIAN
from vmtool.debian.settings import apt_options, apt_sources, build_environment
from vmtool.debian.tools import tools_dir
from vmtool.facts.cpu import read_is_root
from vmtool.facts.memory import read_disk
from vmtool.facts.superseded import superseded
from vmtool.frozen import dataclass
from vmtool.machine import Reader
from vmtool.plan import Pairs
from vmtool.rootfs.build.store import FILES, Store
from vmtool.rootfs.recipe.gpu_support import read_gpus
from vmtool.rootfs.recipe.input_facts import Inputs, read_inputs
from vmtool.rootfs.recipe.models import Recipe

# Seconds that a part of the cache stays there unread.
UNREAD = 30 * 86400


@dataclass(frozen=True)
class Supply:
    """Where packages come from on this host, and by which settings: see `vmtool.debian.settings`.

    Args:
        root: vmtool runs as root.
    """

    environment: Pairs
    sources: tuple[str, ...]
    options: tuple[str, ...]
    root: bool


@dataclass(frozen=True)
class BuildFacts(Supply):
    """What is there.

    Args:
        inputs: what the recipe's files hold.
        base, driver, image: whether that part of this very input is in the cache.
        given: whether the output files are the cached ones, by size and time.
        stale: directories of the cache with images of other inputs of the recipe, and with what builds have not read
            for long or is more than the newest few.
        missing: programs that are not installed, of those that the build needs.
        present: names of the output's files that are there (see FILES), of whatever input.
        gpus: device ids of this host's NVIDIA GPUs; read when the recipe has a driver.
        emulator: how the kernel learns to run the recipe's architecture (binfmt.d(5)); empty when it is the host's.
        foreign: it is another, and no emulator is installed.
        free: bytes where the cache lies; None when unknown.
    """

    inputs: Inputs
    base: bool
    driver: bool
    image: bool
    given: bool
    stale: tuple[Path, ...]
    missing: tuple[str, ...]
    present: tuple[str, ...]
    emulator: str
    foreign: bool
    free: int | None
    gpus: tuple[int, ...] = ()


def read_build(reader: Reader, store: Store, recipe: Recipe, out: Path, environ: Mapping[str, str]) -> BuildFacts:
    """Look at the cache, the output's place and the host.

    Raises:
        NotReady: a setting holds a password.
    """
    inputs = read_inputs(recipe)
    image, base, driver = store.image(recipe.name, inputs.image), store.base(inputs.base), store.driver(inputs.driver)
    needed = ("mmdebstrap", "unshare") if recipe.debian else ("mmdebstrap", "unshare", "dnf", "rpm")
    names = reader.names(str(store.images(recipe.name)))
    machine = BY_DEBIAN[recipe.arch].machine
    native = os.uname().machine == machine
    emulator = "" if native else f"/usr/lib/binfmt.d/qemu-{machine}.conf"
    return BuildFacts(
        inputs=inputs, base=reader.exists(str(base)), driver=bool(recipe.driver) and reader.exists(str(driver)),
        image=reader.exists(str(image)), given=is_given(image, out),
        stale=(*(store.images(recipe.name) / name for name in names if name != image.name),
               *superseded_parts(reader, store, {base, driver, store.images(recipe.name), tools_dir(store.cache)},
                                 time.time())),
        missing=tuple(name for name in needed if not reader.which(name)), present=present(reader, out),
        **read_supply(reader, recipe.debian.suite if recipe.debian else "", environ),
        emulator=emulator, foreign=not native and not reader.exists(emulator),
        free=read_disk(reader, str(store.cache.root)).free, gpus=read_gpus(reader) if recipe.driver else ())


def read_supply(reader: Reader, suite: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a `Supply` for a suite of Debian's, or none."""
    return {"environment": build_environment(environ), "options": apt_options(reader),
            "sources": apt_sources(reader, suite) if suite else (), "root": read_is_root(reader)}


def present(reader: Reader, out: Path) -> tuple[str, ...]:
    """Names of FILES that lie beside the image, itself included."""
    return tuple(name for name, suffix in FILES.items() if reader.exists(str(out.with_name(out.name + suffix))))


def superseded_parts(reader: Reader, store: Store, needed: Collection[Path], now: float) -> tuple[Path, ...]:
    """Packages, drivers, unpacked tools and recipes' images that are neither needed nor were read lately; tools that
    run, for whatever else than a build, are needed."""
    programs = [reader.link(f"/proc/{pid}/exe") or "" for pid in reader.names("/proc") if pid.isdecimal()]

    def kind(pattern: str, file: str = "") -> Iterator[Path]:
        kept = {path / file for path in needed}
        for path in superseded((path / file for path in store.root.glob(pattern)), kept, now - UNREAD):
            yield path.parent if file else path

    tools = (path for path in kind("tools/*") if not any(program.startswith(f"{path}/") for program in programs))
    return (*kind("bases/*", "base.tar"), *kind("drivers/*", "driver.tar"), *tools, *kind("images/*"))


def is_given(image: Path, out: Path) -> bool:
    """Whether each output file is a copy of the cached one: copies keep the time to the nanosecond."""
    try:
        for name, suffix in FILES.items():
            if (image / name).exists():
                cached, given = (image / name).stat(), out.with_name(out.name + suffix).stat()
                if (cached.st_size, cached.st_mtime_ns) != (given.st_size, given.st_mtime_ns):
                    return False
    except OSError:
        return False
    return (image / "rootfs.img").exists()
