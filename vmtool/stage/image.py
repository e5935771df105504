"""containerd, and the workload's image in it."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool import plan as p
from vmtool.containerd.endpoint import plan_containerd
from vmtool.image.reference import full_reference
from vmtool.stage.launch import Launch, Stage


class ImageStage(Stage):
    """The image must be there; its digest goes to the evidence."""

    def prepare(self, launch: Launch) -> Iterator[p.Step]:
        endpoint, name = launch.endpoint, full_reference(launch.body.image)
        recipe = name.rpartition("/")[2].partition(":")[0]
        yield plan_containerd(launch.state, endpoint, launch.name)
        yield p.Step(f"find the image {name}", (
            p.Expect(endpoint.ctr("images", "list", "--quiet", f"name=={name}"), name,
                     hint=f"vmtool image build {recipe}, or: vmtool image import ARCHIVE"),
            p.Run(endpoint.ctr("images", "list", f"name=={name}"), stdout=launch.directory / "evidence" / "image.txt"),
        ))
