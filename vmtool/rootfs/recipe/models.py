"""recipe.yaml of a guest image as frozen models; `vmtool.rootfs.recipe.load` reads the file."""

from __future__ import annotations

import posixpath
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from vmtool.architecture import AMD64, DebianName
from vmtool.image.recipe import PACKAGE
from vmtool.paths import NAME
from vmtool.rootfs.inspect.kata_requirements import HOOKS
from vmtool.schema import HostPath, Size, Strict

MIB = 1 << 20
Unit = Annotated[str, Field(pattern=r"^[A-Za-z0-9@._:\\-]+\.(service|target|mount|socket|timer|path)$")]
Package = Annotated[str, Field(pattern=f"^{PACKAGE.pattern}(:[a-z0-9]+)?(=[A-Za-z0-9.+~:-]+)?$")]
Account = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,30}$")]


def guest_path(value: str) -> str:
    """An absolute path inside the guest, in its simplest form.

    Raises:
        ValueError: it is none, or has characters that e2fsprogs would not take.
    """
    if not re.fullmatch(r"/[\w./@+:,=~^%-]{1,400}", value) or posixpath.normpath(value) != value:
        raise ValueError("must be an absolute path without '..', blanks and quotes")
    return value


def package_name(value: str) -> str:
    """A package of a distribution, perhaps with its architecture and version.

    Raises:
        ValueError: it is not one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+_:~=-]*", value):
        raise ValueError(f"{value!r} is not a valid package name")
    return value


class Repository(Strict):
    """A further package source. `keys` is a file with its OpenPGP keys.

    Args:
        name: of its files on the build host.
        source: for apt what follows "deb [signed-by=...]", such as "https://host/debian stable main"; for dnf a URL.
    """

    name: Annotated[str, Field(pattern=f"^({NAME.pattern})$")]
    source: Annotated[str, Field(pattern=r"^(https?|file|copy)://?[^\s\"'\[\]]+( [A-Za-z0-9._/ -]+)?$")]
    keys: HostPath | None = None
    unsigned: bool = False

    @model_validator(mode="after")
    def _signed(self) -> Repository:
        if (self.keys is None) != self.unsigned:
            raise ValueError("give its `keys`; a local one may say `unsigned: true` instead")
        if self.unsigned and not self.source.startswith(("file:", "copy:")):
            raise ValueError("only a repository on this machine may be unsigned")
        return self


class Debian(Strict):
    """The Debian base. `pockets` are the suites besides the release's own; a `snapshot` is that day's archive."""

    suite: Annotated[str, Field(pattern=r"^[a-z]{3,20}$")]
    components: tuple[Annotated[str, Field(pattern=r"^[a-z-]+$")], ...] = ("main",)
    pockets: tuple[Literal["updates", "security", "backports"], ...] = ("updates", "security")
    snapshot: Annotated[str, Field(pattern=r"^\d{8}T\d{6}Z$")] | None = None
    repositories: tuple[Repository, ...] = ()


class Rpm(Strict):
    """An RPM base, by dnf --installroot: `release` is dnf's releasever."""

    release: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")]
    repositories: Annotated[tuple[Repository, ...], Field(min_length=1)]


class Kernel(Strict):
    """The guest's kernel: a package; or an image file with a directory of its modules, named by its release."""

    package: str | None = None
    image: HostPath | None = None
    modules: HostPath | None = None

    @model_validator(mode="after")
    def _one(self) -> Kernel:
        if (self.package is None) == (self.image is None) or (self.modules is not None and self.image is None):
            raise ValueError("takes either package, or image with modules")
        return self


class Driver(Strict):
    """NVIDIA's driver, in one of three ways.

    Args:
        packages: of the distribution, with the source of open kernel modules below /usr/src, compiled for the guest.
        run: NVIDIA's installer, run without questions; `source` is the kernel's source tree, or its headers.
        modules: a directory of modules that were compiled before.
        branch: such as "550"; checked against the version that is installed.
        gpu: what the image is for: types such as nvidia-h100, or device ids such as 10de:2330; the branch must fit.
    """

    packages: tuple[Package, ...] = ()
    run: HostPath | None = None
    source: HostPath | None = None
    modules: HostPath | None = None
    branch: Annotated[str, Field(pattern=r"^\d{3}$")] | None = None
    gpu: tuple[Annotated[str, Field(pattern=r"^(nvidia-[a-z0-9]+|10de:[0-9a-f]{4})$")], ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Driver:
        ways = [name for name in ("packages", "run", "modules") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError("takes exactly one of packages, run and modules")
        if self.source and not self.run:
            raise ValueError("source goes with run")
        return self


class Toolkit(Strict):
    """nvidia-container-toolkit: a package of a repository that the recipe names, or a package file."""

    package: str = "nvidia-container-toolkit"
    file: HostPath | None = None


class Hook(Strict):
    """How a container gets the GPU: a prestart hook at `path`/prestart, or CDI."""

    kind: Literal["prestart", "cdi"] = "prestart"
    path: Annotated[str, Field(default=HOOKS)]
    toolkit: str = "/usr/bin/nvidia-container-toolkit"

    _paths = field_validator("path", "toolkit")(guest_path)


class Kata(Strict):
    """What makes it a guest of Kata's; the agent is taken from the Kata release that the host runs."""

    agent: HostPath


class File(Strict):
    """A file of the image: its text, or a file to copy. Modes are written as in chmod, in quotes."""

    path: str
    text: str | None = None
    source: HostPath | None = None
    mode: Annotated[str, Field(pattern=r"^[0-7]{3,4}$")] = "0644"
    uid: Annotated[int, Field(ge=0, le=65534)] = 0
    gid: Annotated[int, Field(ge=0, le=65534)] = 0

    _path = field_validator("path")(guest_path)

    @model_validator(mode="after")
    def _one(self) -> File:
        if (self.text is None) == (self.source is None):
            raise ValueError("takes either text or source")
        return self


class Units(Strict):
    """systemd units to enable, to mask, and the one to boot into."""

    enable: tuple[Unit, ...] = ()
    mask: tuple[Unit, ...] = ()
    default: Unit | None = None


class User(Strict):
    """An account that nobody can log into with a password."""

    name: Account
    uid: Annotated[int, Field(ge=1, le=60000)]
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"

    _paths = field_validator("home", "shell")(guest_path)


class Verity(Strict):
    """dm-verity hashes in partition 2; the salt in hexadecimal is fixed, so that the image is reproducible."""

    salt: Annotated[str, Field(pattern=r"^([0-9a-f]{2}){0,256}$")] = "766d746f6f6c"


class Recipe(Strict):
    """A whole recipe. Paths in it are relative to its directory. `exclude` are dpkg's path patterns."""

    kind: Literal["GuestImage"]
    name: Annotated[str, Field(pattern=f"^({NAME.pattern})$")]
    arch: DebianName = AMD64.debian
    debian: Debian | None = None
    rpm: Rpm | None = None
    packages: tuple[Annotated[str, AfterValidator(package_name)], ...] = ()
    exclude: tuple[Annotated[str, Field(pattern=r"^/[\w./*?+-]+$")], ...] = ()
    kernel: Kernel | None = None
    driver: Driver | None = None
    toolkit: Toolkit | None = None
    hook: Hook | None = None
    kata: Kata | None = None
    files: tuple[File, ...] = ()
    units: Units = Units()
    users: tuple[User, ...] = ()
    layout: Literal["bare", "kata", "kata-dax", "initrd"] = "kata-dax"
    filesystem: Literal["ext4", "erofs"] = "ext4"
    size: Size = 512 * MIB
    verity: Verity | None = None

    @model_validator(mode="after")
    def _whole(self) -> Recipe:
        if (self.debian is None) == (self.rpm is None):
            raise ValueError("takes either debian or rpm")
        if self.verity and self.layout not in ("kata", "kata-dax"):
            raise ValueError("dm-verity's hashes lie in partition 2: choose the layout kata or kata-dax")
        if self.driver and not self.kernel:
            raise ValueError("a driver is compiled for a kernel: give `kernel`")
        if self.hook and not self.toolkit:
            raise ValueError("a hook calls nvidia-container-toolkit: give `toolkit`")
        if self.layout.startswith("kata") and self.size % (128 * MIB):
            raise ValueError("the size of Kata's layouts is a multiple of 128Mi")
        return self
