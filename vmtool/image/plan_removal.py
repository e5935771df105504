"""Steps that are named by what was found of an image, and whose undo removes it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.endpoint import awake
from vmtool.containerd.plan_removal import release_of_containerd
from vmtool.image.remains import ImageRemains
from vmtool.paths import State


def removal_of_image(state: State, name: str, found: ImageRemains) -> Iterator[p.Step]:
    """Its names, what is written down of it, and the containerd that is kept for it."""
    if found.kept:
        yield release_of_containerd(state, f"image-{name}")
    for endpoint, names in found.names:
        yield p.Step(f"{', '.join(names)} in the containerd on {endpoint.socket}", undo=(
            *awake(state, endpoint),
            *(p.Run(endpoint.ctr("images", "remove", each), absent_messages=("not found",)) for each in names)))
    if found.files:
        yield p.Step(f"what is written down of the image {name}", undo=tuple(map(p.Remove, found.files)))
