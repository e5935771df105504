"""Recipes and facts for the tests of this folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vmtool.cache import Cache
from vmtool.image.facts import BuildFacts
from vmtool.image.recipe import SERVING, Recipe

UPSTREAM = "sha256:" + "1" * 64
CACHE = Cache(Path("/c"))
DIGEST = "ab" * 32
RECIPE = """
kind: ContainerImage
name: tiny
base:
  suite: bookworm
  packages: [busybox-static]
platform: linux/amd64
"""


def recipe(**changes: Any) -> Recipe:
    """A recipe with a Debian base; its files are those of images/vllm-cpu."""
    directory = Path(__file__).parents[3] / "images" / "vllm-cpu"
    return dataclasses.replace(
        Recipe("tiny", directory, "bookworm", ("python3",), "", "linux/amd64", "3.11"), **changes)


def facts(**changes: Any) -> BuildFacts:
    """A host with every program, and an empty cache."""
    return dataclasses.replace(
        BuildFacts(archive=False, stale=(), base=False, wheels_missing=3, builder="buildah", mmdebstrap=True,
                   pip=True, environment=(("PIP_CERT", "/ca.pem"),), sources=(), options=(),
                   free=100 << 30, serving=(SERVING / "entrypoint.py", SERVING / "front" / "front.py"),
                   root=True), **changes)


def write_recipe(directory: Path, text: str = RECIPE) -> Path:
    """A recipe directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "recipe.yaml").write_text(text)
    (directory / "Containerfile").write_text("FROM scratch\nADD base.tar /\n")
    return directory
