"""Which packages are to be installed into an image, and of which release of Debian the image is."""

from __future__ import annotations

import re
from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.rootfs.inspect.tree import Tree
from vmtool.rootfs.recipe.models import Debian

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_:~=-]*")


@dataclass(frozen=True)
class Wanted:
    """Packages: by name, and as files of this host's."""

    names: tuple[str, ...]
    files: tuple[Path, ...]

    @property
    def reported(self) -> tuple[str, ...]:
        return tuple(f"package {name}" for name in (*self.names, *(file.name for file in self.files)))


def read_wanted(words: tuple[str, ...], suffix: str) -> Wanted:
    """Names, and paths of package files.

    Raises:
        Refused: a word is neither.
    """
    files = tuple(Path(word).absolute() for word in words if word.endswith(suffix) and Path(word).is_file())
    names = tuple(word for word in words if Path(word).absolute() not in files)
    if bad := [name for name in names if not _NAME.fullmatch(name)]:
        raise Refused(f"{bad[0]}: neither a package's name nor a {suffix} file that is there")
    if kernels := [name for name in names if re.match(r"linux-image-|kernel(-core)?$", name)]:
        raise Refused(f"{kernels[0]}: an image has one kernel, which is next to it",
                      hint="name the kernel in the recipe, and build the image again")
    return Wanted(names, files)


def read_debian(tree: Tree, components: tuple[str, ...]) -> Debian:
    """The release that an image is of, as its own /etc/os-release shows (os-release(5)).

    Raises:
        Refused: it is none of Debian's.
    """
    text = tree.text("/etc/os-release") or tree.text("/usr/lib/os-release") or ""
    fields = {name: value.strip('"') for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)}
    if fields.get("ID") != "debian" or not re.fullmatch(r"[a-z]{3,20}", fields.get("VERSION_CODENAME", "")):
        raise Refused(f"the image is {fields.get('PRETTY_NAME') or 'of an unknown system'}, whose package sources are "
                      "not known", hint="name the recipe with the sources: --recipe RECIPE")
    return Debian(suite=fields["VERSION_CODENAME"], components=components)
