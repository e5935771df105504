"""The model that is served."""

from __future__ import annotations

from collections.abc import Iterator

from vmtool.findings import Finding, wrong_input
from vmtool.models.facts import ModelFacts
from vmtool.stage.launch import Launch, Stage

PLACE = "spec.model.path"


class ModelStage(Stage):
    """A local model's directory must hold one."""

    def check(self, launch: Launch) -> Iterator[Finding]:
        if launch.model:
            yield from check_model(launch.model)


def check_model(model: ModelFacts) -> Iterator[Finding]:
    """What is wrong with the model's directory."""
    if not model.files:
        yield wrong_input("model.empty", f"{model.path} is no directory with files in it", place=PLACE)
        return
    if not model.architecture:
        yield wrong_input("model.config", f"{model.path}/config.json is missing or names no architecture", place=PLACE)
    if not any(name.endswith((".safetensors", ".bin", ".gguf")) for name in model.files):
        yield wrong_input("model.weights", f"{model.path} holds no weights (*.safetensors)", place=PLACE)
    if model.outside:
        yield wrong_input("model.links", f"{', '.join(model.outside[:3])} in {model.path} link out of it, where the "
                          "container sees nothing", "copy the directory with its links resolved: cp -rL", PLACE)
    if model.special:
        yield wrong_input("model.special", f"{', '.join(model.special[:3])} in {model.path}: neither a file nor a "
                          "directory", f"look who put it there: ls -l {model.path}", PLACE)
    if model.mounts:
        yield wrong_input("model.mounts", f"{', '.join(model.mounts[:3])} is mounted below {model.path}; the container "
                          "is given one file system, read-only", "mount it elsewhere, and copy or bind what it has: "
                          "each model has a directory on one file system", PLACE)
    if model.unreadable:
        yield wrong_input("model.unreadable", f"the container's user cannot read {', '.join(model.unreadable[:3])} in "
                          f"{model.path}", f"chmod -R o+rX {model.path}", PLACE)
