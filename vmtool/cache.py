"""Where things lie that can be made again: the names of directories and files, no more."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from vmtool.frozen import dataclass


@dataclass(frozen=True)
class Cache:
    """The cache directory; it may be removed at any time when no build runs."""

    root: Path

    @classmethod
    def at(cls, environ: Mapping[str, str] = os.environ) -> Cache:
        """VMTOOL_CACHE, or vmtool/ in XDG_CACHE_HOME or ~/.cache."""
        named = environ.get("VMTOOL_CACHE")
        home = environ.get("XDG_CACHE_HOME") or os.path.join(environ.get("HOME", "/root"), ".cache")
        return cls(Path(os.path.abspath(named or os.path.join(home, "vmtool"))))

    def base(self, digest: str) -> Path:
        """The root filesystem made for a list of packages."""
        return self.root / "bases" / f"{digest[:12]}.tar"

    def context(self, name: str) -> Path:
        """The build context of a recipe; the wheels in it are kept for the next build."""
        return self.root / "contexts" / name

    def scratch(self, name: str) -> Path:
        """Temporary files of a recipe's build; gone after it."""
        return self.root / "scratch" / name

    def archives(self, name: str) -> Path:
        return self.root / "images" / name

    def archive(self, name: str, digest: str) -> Path:
        """The built image; its SHA-256 is in the file next to it."""
        return self.archives(name) / f"{digest[:12]}.tar"

    @property
    def lock(self) -> Path:
        """Held by whoever builds: the builder's storage is one for all recipes and state directories."""
        return self.root / "build-cache.lock"

    @property
    def storage(self) -> Path:
        """buildah's own images, which make a rebuild quick."""
        return self.root / "buildah"

    @property
    def runroot(self) -> Path:
        """buildah's mount counts: a reboot must empty it, since a reboot unmounts."""
        import hashlib  # loads OpenSSL, which most commands do not need

        return Path("/run/vmtool") / f"build-{hashlib.sha256(os.fsencode(self.root)).hexdigest()[:8]}"


def checksum(archive: Path) -> Path:
    """The file with the archive's SHA-256."""
    return archive.with_suffix(".sha256")
