"""Where a build keeps its parts: the names of directories and files, no more. A part that is there is whole."""

from __future__ import annotations

from pathlib import Path

from vmtool.cache import Cache
from vmtool.frozen import dataclass

# What every file is dated that has no older date of its own: 2025-06-15, as container images have it.
EPOCH = 1750000000


@dataclass(frozen=True)
class Store:
    """The builder's part of the cache. A digest is in a name with its first 16 digits."""

    cache: Cache

    @property
    def root(self) -> Path:
        return self.cache.root / "rootfs"

    def base(self, digest: str) -> Path:
        """A directory with base.tar and packages.txt."""
        return self.root / "bases" / digest[:16]

    def driver(self, digest: str) -> Path:
        """A directory with driver.tar and driver.json."""
        return self.root / "drivers" / digest[:16]

    def images(self, name: str) -> Path:
        return self.root / "images" / name

    def image(self, name: str, digest: str) -> Path:
        """A directory with the image and what belongs to it: see FILES."""
        return self.images(name) / digest[:16]

    def scratch(self, name: str) -> Path:
        """Temporary files of a recipe's build; gone after it."""
        return self.root / "scratch" / name

    @property
    def lock(self) -> Path:
        """Held by whoever builds guest images: the parts are one for all recipes and state directories."""
        return self.root / "build.lock"


# In an image's directory -> what is appended to the name of the image that it is given out with.
FILES = {"rootfs.img": "", "manifest.json": ".manifest.json", "lock.json": ".lock.json", "spdx.json": ".spdx.json",
         "vmlinuz": ".vmlinuz"}
