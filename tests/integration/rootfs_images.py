"""Recipes, packages and copies that the tests of guest images share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

MINIMAL = yaml.safe_load((Path(__file__).parents[2] / "images/rootfs-minimal/recipe.yaml").read_text())
TOOLKIT = """Package: nvidia-container-toolkit
Version: {version}
Architecture: all
Maintainer: tests <tests@example.org>
Description: stands in for NVIDIA's
"""


def make_toolkit(directory: Path, version: str) -> Path:
    tree = directory / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(TOOLKIT.format(version=version))
    (tree / "usr/bin").mkdir(parents=True)
    program = tree / "usr/bin/nvidia-container-toolkit"
    program.write_text('#!/bin/sh\necho "$@" > /run/toolkit.args\ncat > /run/toolkit.state\nexit 3\n')
    program.chmod(0o755)
    package = directory / "toolkit.deb"
    # The same bytes each time, so that the base with it stays in the cache.
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, package], check=True, capture_output=True,
                   env=os.environ | {"SOURCE_DATE_EPOCH": "1750000000"})
    return package


def recipe(directory: Path, **changes: object) -> Path:
    """The minimal recipe with changes (None takes a key away); the same base of packages for most tests."""
    directory.mkdir(exist_ok=True)
    path = directory / "recipe.yaml"
    value = {**MINIMAL, "name": "rootfs-test", **changes}
    path.write_text(yaml.safe_dump({name: item for name, item in value.items() if item is not None}))
    return path


def copied(image: Path, directory: Path) -> Path:
    """The image with its metadata files."""
    for path in image.parent.glob(f"{image.name}*"):
        subprocess.run(["cp", "--sparse=always", "--preserve=timestamps", path, directory / path.name], check=True)
    return directory / image.name
