"""containerd, and the workload's image in it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.endpoint import plan_containerd
from vmtool.containerd.plan_removal import release_of_containerd
from vmtool.containerd.remains import is_kept_for
from vmtool.findings import Finding
from vmtool.image.actions import ExpectDigest
from vmtool.image.check import check_image
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.stage.launch import Launch, Stage


class ImageStage(Stage):
    """The image must be the one that was pinned; what its name points to goes to the evidence."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        yield from check_image(launch.image)

    def prepare(self, launch: Launch) -> Iterator[p.Step]:
        endpoint, image = launch.endpoint, launch.image
        yield launch.inherit(plan_containerd(launch.state, endpoint, launch.name),
                             release_of_containerd(launch.state, launch.name).undo[0])
        yield p.Step(f"find the image {image.reference} ({image.digest[:19]}, {image.origin})", (
            ExpectDigest(endpoint, image.reference, image.digest, hint="vmtool image list"),
            p.Run(endpoint.ctr("images", "list", f"name=={image.reference}"),
                  stdout=launch.paths.evidence / "image.txt"),
        ))

    def remains(self, reader: Reader, state: State, name: str, slot: str) -> Iterator[p.Step]:
        if not slot and is_kept_for(reader, state, name):
            yield release_of_containerd(state, name)
