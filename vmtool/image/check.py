"""Reasons not to build a container image: its upstream is not named by a digest, or the host lacks something."""

from __future__ import annotations

from vmtool.cache import Cache
from vmtool.errors import Refused
from vmtool.findings import Finding, host_lacks, size
from vmtool.image.facts import BuildFacts
from vmtool.image.recipe import DIGEST, Recipe

NEEDED = 8 << 30


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
    if facts.free is not None and facts.free < NEEDED:
        lacking.append(host_lacks("image.space", f"{cache.root}: {size(facts.free)} free, {NEEDED >> 30} GiB are "
                                  "needed",
                                  "make room, or set VMTOOL_CACHE to a larger file system"))
    return lacking
