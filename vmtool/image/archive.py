"""What an image archive holds, looked at with bounds before containerd sees it: OCI layout or `docker save`."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO, cast

from vmtool.errors import Refused
from vmtool.foreign import BoundedFile, open_file, parse_json
from vmtool.frozen import dataclass
from vmtool.image.reference import full_reference

MAX_MEMBERS = 10_000
MAX_JSON = 4 << 20
# Of all headers and documents together: tarfile reads a header whole, however large it says that it is.
MAX_HEADERS = 64 << 20
NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
# The grammar of github.com/distribution/reference, which containerd's filters and clients rest on.
PATH = r"(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)+"
NAME = rf"[a-z0-9]+(?:[.-]+[a-z0-9]+)*(?::\d{{1,5}})?{PATH}"
# Capitals, and addresses of IPv6, are for registries only.
REGISTRY = r"(?:[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?"
TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
REFERENCE = re.compile(rf"(?=.{{1,383}}\Z){REGISTRY}{PATH}(?::{TAG})?(?:@sha256:[0-9a-f]{{64}})?")
COMPRESSED = {b"\x1f\x8b": "gunzip", b"\x28\xb5\x2f\xfd": "unzstd", b"BZ": "bunzip2", b"\xfd7zXZ": "unxz"}


@dataclass(frozen=True)
class Contents:
    """The images in an archive.

    Args:
        form: "oci" or "docker".
        references: full names with tags, as containerd will know them.
        unnamed: images that carry no full name, by their tag or, without one, by nothing.
        digests: of their manifests, by either; containerd makes the manifests of Docker's form when it imports them.
    """

    form: str
    references: tuple[str, ...]
    unnamed: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)


def read_archive(path: Path) -> Contents:
    """Look into an archive; its layers are not read, containerd checks their digests on import.

    Raises:
        Refused: it is absent, no uncompressed tar, has too many members, or is no image.
    """
    try:
        with open_file(path) as file:
            start = file.read(8)
            for magic, program in COMPRESSED.items():
                if start.startswith(magic):
                    raise Refused(f"{path}: compressed", hint=f"unpack it first: {program} {path}")
            file.seek(0)
            bounded = BoundedFile(file, at_once=MAX_JSON, in_all=MAX_HEADERS)
            with tarfile.open(fileobj=cast("BinaryIO", bounded), mode="r:") as archive:
                return _contents(path, archive)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}") from error
    except (tarfile.TarError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{path}: no image archive, or a damaged one ({error})",
                      hint="make one with: vmtool image build, docker save, or buildah push NAME oci-archive:FILE"
                      ) from error


def _contents(path: Path, archive: tarfile.TarFile) -> Contents:
    members: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if len(members) >= MAX_MEMBERS:
            raise Refused(f"{path}: more than {MAX_MEMBERS} files, so it is no image archive")
        members[member.name.removeprefix("./")] = member
    # `docker save` of today writes both forms into one archive; containerd prefers the OCI one as well.
    if "oci-layout" in members and "index.json" in members:
        return _oci(archive, members)
    if "manifest.json" in members:
        return _docker(archive, members)
    raise Refused(f"{path}: a tar file, but not of an image: no index.json and no manifest.json")


def _oci(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Contents:
    references: list[str] = []
    unnamed: list[str] = []
    digests: dict[str, str] = {}
    for manifest in _json(archive, members, "index.json")["manifests"]:
        algorithm, _, value = manifest["digest"].partition(":")
        blob = members[f"blobs/{algorithm}/{value}"]
        if blob.size != manifest["size"]:
            raise ValueError(f"{blob.name} has {blob.size} bytes instead of {manifest['size']}")
        annotations = manifest.get("annotations") or {}
        name = next((annotations[key] for key in NAMES if key in annotations), "")
        if digests.setdefault(name, f"{algorithm}:{value}") != f"{algorithm}:{value}":
            raise ValueError(f"two images are named {name!r}")
        if "@" in name and not name.endswith(f"@{manifest['digest']}"):
            raise ValueError("its name has another digest than the image")
        (references if REFERENCE.fullmatch(name) else unnamed).append(name)
    return _named("oci", references, unnamed, digests)


def _docker(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo]) -> Contents:
    references: list[str] = []
    unnamed: list[str] = []
    for image in _json(archive, members, "manifest.json"):
        for part in (image["Config"], *image["Layers"]):
            if part not in members:
                raise ValueError(f"{part} is missing")
        tags = image.get("RepoTags") or []
        for tag in tags:
            if not REFERENCE.fullmatch(full_reference(tag)):
                raise ValueError(f"{tag!r} is no name of an image")
            references.append(full_reference(tag))
        unnamed += [] if tags else [""]
    return _named("docker", references, unnamed, {})


def _named(form: str, references: list[str], unnamed: list[str], digests: Mapping[str, str]) -> Contents:
    if not references and not unnamed:
        raise ValueError("no image in it")
    return Contents(form, tuple(references), tuple(unnamed), digests)


def _json(archive: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> Any:
    file = archive.extractfile(members[name])
    if members[name].size > MAX_JSON or file is None:
        raise ValueError(f"{name} is not a file of at most {MAX_JSON >> 20} MiB")
    return parse_json(file.read(), pairs=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Go, and so containerd, takes the last of two keys that differ in their letters' case only (encoding/json): it
    would import another image than the one that was looked at."""
    if len({name.casefold() for name, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
