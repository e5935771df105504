"""Reasons not to build, import or start a container image."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vmtool.cache import Cache
from vmtool.containerd.container import UID
from vmtool.errors import Refused
from vmtool.findings import Finding, host_lacks, size, wrong_input
from vmtool.image.installed import ImportedImage
from vmtool.image.listing import DIGEST
from vmtool.image.pinned_image import PinnedImage

if TYPE_CHECKING:  # what reads recipes is slow to import, and a launch reads none
    from vmtool.image.facts import BuildFacts
    from vmtool.image.recipe import Recipe

PLACE = "spec.image"
# By number: a name means what the image's own /etc/passwd says.
USERS = (f"{UID}", f"{UID}:{UID}")


def check_upstream(recipe: Recipe, digest: str) -> None:
    """A base from a registry must be named by what it contains; a tag may be anything tomorrow.

    Raises:
        Refused: it is not, or the recipe has no such base.
    """
    if recipe.upstream and not DIGEST.fullmatch(digest):
        raise Refused(f"{recipe.name}: the digest of {recipe.upstream} is needed, sha256: and 64 hexadecimal digits",
                      hint=f"choose a release, then: vmtool image build {recipe.name} --upstream-digest "
                           f"$(skopeo inspect --format '{{{{.Digest}}}}' docker://{recipe.upstream}:TAG)")
    if digest and not recipe.upstream:
        raise Refused(f"{recipe.name}: has no upstream image", hint="leave --upstream-digest out")


def check_host(cache: Cache, recipe: Recipe, facts: BuildFacts, *, fresh: bool) -> list[Finding]:
    """What the host lacks, each with a hint."""
    lacking = []
    if not facts.builder:
        lacking.append(host_lacks("image.builder", "no builder: buildah is not installed, and no docker engine with "
                                  "buildx answers", "apt-get install buildah"))
    if recipe.suite and not facts.mmdebstrap and (fresh or not facts.base):
        lacking.append(host_lacks("image.mmdebstrap", "mmdebstrap is not installed; it makes the Debian base",
                                  "apt-get install mmdebstrap"))
    if recipe.python and facts.wheels_missing and not facts.pip:
        lacking.append(host_lacks("image.pip", "this Python has no pip; it fetches the wheels",
                                  "apt-get install python3-pip"))
    if facts.free is not None and facts.free < recipe.space:
        lacking.append(host_lacks("image.space", f"{cache.root}: {size(facts.free)} free, {size(recipe.space)} are "
                                  "needed", "make room, or set VMTOOL_CACHE to a larger file system"))
    return lacking


def check_names(record: ImportedImage, digests: Mapping[str, str], known: Iterable[ImportedImage],
                recorded: Mapping[str, str], archive: Path | None = None) -> None:
    """A name is one image's: what is imported never takes the place of what was built or imported before.

    Args:
        digests: what the archive has under each name; recorded: what vmtool put there under the record's own names.
        archive: to be imported; None for a build, which makes its own image again.

    Raises:
        Refused: a name is taken.
    """
    for other in known:
        for name in record.references:
            same = archive is None or digests.get(name, "") == recorded.get(name)
            if name in other.references and (other.name != record.name or not same):
                made = f"that was built from the recipe {other.name}" if other.input else "that was imported"
                again = f"image import {shlex.quote(str(archive))}" if archive else f"image build {record.name}"
                raise Refused(f"{name} is the name of an image {made}", hint=f"remove that first: vmtool image rm "
                              f"{other.name}, then: vmtool {again}")


def check_image(image: PinnedImage) -> Iterator[Finding]:
    """Reasons not to start anything from an image."""
    recipe = image.reference.rpartition("/")[2].partition(":")[0]
    again = f"vmtool image build {recipe}, or: vmtool image import ARCHIVE"
    if not image.digest:
        yield host_lacks("image.absent", f"there is no image {image.reference}", again, PLACE)
    elif image.recorded and image.recorded != image.digest:
        yield host_lacks("image.moved", f"{image.reference} points to {image.digest}, but vmtool put {image.recorded} "
                         "there: something else moved the name", again, PLACE)
    elif image.problem:
        yield host_lacks("image.damaged", f"{image.reference}: {image.problem}", again, PLACE)
    if image.requested and image.digest and image.requested != image.digest:
        yield wrong_input("image.digest", f"{image.reference} is {image.digest}, not {image.requested}",
                          "vmtool image list", PLACE)


def check_user(image: PinnedImage) -> Iterator[Finding]:
    """Without a user an image's processes are root's on this host."""
    if image.digest and not image.problem and image.user not in USERS:
        yield wrong_input("image.user", f"{image.reference} would run as {image.user or 'root'}",
                          f"end its Containerfile with: USER {UID}:{UID}", PLACE)
