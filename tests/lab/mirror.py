"""The Debian mirror of this host, asked for when a part is looked up or made: an import starts no program."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from vmtool.errors import VmtoolError
from vmtool.host import processes

# Stands for its address in the arguments of mmdebstrap.
MIRROR = "MIRROR-OF-THIS-HOST"


def located(words: Iterable[str]) -> tuple[str, ...]:
    """The words with the mirror's address in the place of `MIRROR`."""
    return tuple(word.replace(MIRROR, debian_mirror()) if MIRROR in word else word for word in words)


@functools.cache
def debian_mirror() -> str:
    """The mirror that this host's apt uses for Debian; without one, a name that explains itself in the error."""
    argv = ("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian")
    try:
        found = processes.run(argv, deadline=30.0).out.split()
    except VmtoolError:
        found = []
    return found[0].rstrip("/") if found else "file:///no-debian-mirror-in-apts-sources"
