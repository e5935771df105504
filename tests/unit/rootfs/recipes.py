"""Recipes and facts for the tests of this folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import yaml

from vmtool.cache import Cache
from vmtool.rootfs.build.facts import BuildFacts
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.recipe.input_facts import Inputs
from vmtool.rootfs.recipe.load import read_rootfs_recipe
from vmtool.rootfs.recipe.models import Recipe

STORE = Store(Cache(Path("/c")))
MINIMAL: dict[str, Any] = {"kind": "GuestImage", "name": "tiny", "debian": {"suite": "bookworm"},
                           "packages": ["systemd-sysv"]}


def write(directory: Path, **changes: Any) -> Path:
    """A recipe.yaml: the minimal one with changes; None takes a key away."""
    value = {name: item for name, item in (MINIMAL | changes).items() if item is not None}
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def recipe(directory: Path, **changes: Any) -> Recipe:
    return read_rootfs_recipe(write(directory, **changes))


def facts(**changes: Any) -> BuildFacts:
    """A host with every program, and an empty cache."""
    return dataclasses.replace(BuildFacts(
        inputs=Inputs("a" * 64, "b" * 64, "c" * 64, {}),
        base=False, driver=False, image=False, given=False, stale=(), missing=(), present=(), environment=(),
        sources=(), options=('Acquire::http::Proxy "http://p"',), root=True, emulator="", foreign=False,
        free=100 << 30),
        **changes)
