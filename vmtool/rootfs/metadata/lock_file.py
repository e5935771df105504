"""The lock file beside an image: every package that is in it, with version and hash."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vmtool.errors import Refused
from vmtool.foreign import parse_json, read_regular
from vmtool.rootfs.metadata.packages import Package
from vmtool.schema import Strict

LARGEST = 16 << 20


class Entry(Strict):
    """A package; see `vmtool.rootfs.metadata.packages.Package`."""

    name: str
    version: str
    architecture: str
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    manager: Literal["deb", "rpm"] = "deb"


class DriverEntry(Strict):
    """The driver; see `vmtool.rootfs.build.workers.nvidia_modules`."""

    version: str
    kernel: str
    modules: tuple[str, ...] = ()


class Lock(Strict):
    """The whole of it."""

    schema_: Annotated[Literal["vmtool/rootfs-lock/v1"], Field(alias="schema")]
    recipe: str
    driver: DriverEntry | dict[str, str]
    packages: tuple[Entry, ...]


def read_lock(path: Path) -> tuple[tuple[Package, ...], dict[str, object]]:
    """The packages, and the driver as it was described (empty when there is none).

    Raises:
        Refused: it is absent or is none.
    """
    try:
        data = read_regular(path, LARGEST + 1)
        lock = Lock.model_validate_json(data if len(data) <= LARGEST else b"")
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except ValidationError as error:
        places = [f"{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in error.errors()[:6]]
        raise Refused(f"{path}: not a lock file of an image", details=places,
                      hint="vmtool rootfs build writes it beside the image, as IMAGE.lock.json") from error
    driver = parse_json(lock.driver.model_dump_json()) if isinstance(lock.driver, DriverEntry) else {}
    return tuple(Package(**each.model_dump()) for each in lock.packages), driver


def completed(packages: Sequence[Package], before: Sequence[Package]) -> tuple[Package, ...]:
    """The packages, with hashes that only an earlier list knows: an archive forgets a package when a newer comes."""
    known = {(each.name, each.version, each.architecture): each.sha256 for each in before}
    return tuple(each if each.sha256 else dataclasses.replace(
        each, sha256=known.get((each.name, each.version, each.architecture), "")) for each in packages)


def differences(wanted: Sequence[Package], found: Sequence[Package]) -> list[str]:
    """What is not as the lock says, a line for each package; a hash is compared where both sides have one."""
    ours = {(each.name, each.architecture): each for each in wanted}
    theirs = {(each.name, each.architecture): each for each in found}
    return [line for key in sorted(ours.keys() | theirs.keys())
            if (line := _difference(key[0], ours.get(key), theirs.get(key)))]


def _difference(name: str, wanted: Package | None, found: Package | None) -> str:
    if wanted is None or found is None:
        return (f"{name} {found.version} is not in the lock" if found else
                f"{name} {wanted.version} of the lock is missing" if wanted else "")
    if wanted.version != found.version:
        return f"{name} is {found.version}, the lock has {wanted.version}"
    if wanted.sha256 and wanted.sha256 != found.sha256:
        return f"{name} {found.version} has sha256 {found.sha256 or '(unknown)'}, the lock has {wanted.sha256}"
    return ""
