"""The plan of a canary model: the image's own trainer, in a one-off container without a network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vmtool import plan as p
from vmtool.containerd import container as c
from vmtool.containerd.endpoint import Endpoint, awake, plan_containerd
from vmtool.errors import Refused
from vmtool.findings import refuse
from vmtool.image.actions import ExpectDigest
from vmtool.image.check import check_image, check_user
from vmtool.image.pinned_image import PinnedImage
from vmtool.image.plan_import import plan_release
from vmtool.models.canary_facts import CanaryTarget
from vmtool.models.workers import collect
from vmtool.paths import State

MEMORY = 4 << 30


def plan_canary(state: State, endpoint: Endpoint, image: PinnedImage, found: CanaryTarget) -> p.Plan:
    """From nothing to a model directory.

    Args:
        image: whose torch trains it.
        found: absolute path, and what is there: nothing, an empty directory, or the same canary.

    Raises:
        Refused: something else is there, or the image would run as root.
        NotReady: there is no such image.
    """
    target, directory = found.path, work_dir(state, found.path)
    name = directory.name
    if found.canary:
        return p.Plan(f"model {target}", directory, (p.Step("train the canary model", skip=f"{target} holds it"),))
    if not found.free:
        raise Refused(f"{target} holds something that is not this vmtool's canary model",
                      hint="choose another directory, or remove it")
    refuse([*check_image(image), *check_user(image)], f"{image.reference} cannot train the canary model")
    # Only this directory is open to the container. What it leaves there is copied next to the target, so that the model
    # appears in one move.
    staging, new = directory / "out", target.parent / f".{target.name}.{name}"
    container = c.Container(name=f"vmtool-{name}", image=image.reference, memory=MEMORY, writable=((staging, "/out"),),
                            command=("python3", "-P", "-m", "vmtool.serving.train_canary", "/out/model"))
    # A directory that is there keeps its mode and owner: it may be /tmp.
    parent = [] if found.parent else [p.MakeDir(target.parent, mode=0o755)]
    gone = c.removal(endpoint, container.name)
    user = f"work-{name}"
    return p.Plan(f"model {target}", directory, (
        plan_containerd(state, endpoint, user),
        p.Step(f"find the image {image.reference} ({image.digest[:19]}, {image.origin})", (
            ExpectDigest(endpoint, image.reference, image.digest, hint="vmtool image list"),)),
        p.Step("train the canary model", (
            *gone, p.Remove(staging), p.Remove(new), *parent, p.MakeDir(staging, uid=c.UID),
            p.Run(c.run_argv(endpoint, container, "--rm"), deadline=300),
            p.run_worker(collect.Order(staging / "model", new, target), deadline=60), p.Remove(staging),
        ), undo=(*awake(state, endpoint), *gone, p.Remove(staging), p.Remove(new))),
        plan_release(state, endpoint, user),
    ))


def work_dir(state: State, target: Path) -> Path:
    """Where the making of the model at `target` is journalled."""
    return state.root / "work" / f"canary-{hashlib.sha256(os.fsencode(target)).hexdigest()[:8]}"
