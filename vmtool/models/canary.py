"""The plan of a canary model: the image's own trainer, in a one-off container without a network."""

from __future__ import annotations

import hashlib
import json
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
from vmtool.paths import State
from vmtool.serving.train_canary import PAIRS

MEMORY = 4 << 30


def plan_canary(state: State, endpoint: Endpoint, image: PinnedImage, target: Path) -> p.Plan:
    """From nothing to a model directory at `target`.

    Args:
        image: whose torch trains it.
        target: absolute path; absent, empty, or holding the same canary.

    Raises:
        Refused: something else is there, or the image would run as root.
        NotReady: there is no such image.
    """
    directory = work_dir(state, target)
    name = directory.name
    if is_canary(target):
        return p.Plan(f"model {target}", directory, (p.Step("train the canary model", skip=f"{target} holds it"),))
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise Refused(f"{target} holds something that is not this vmtool's canary model",
                      hint="choose another directory, or remove it")
    found = [*check_image(image), *check_user(image)]
    refuse(found, f"{image.reference} cannot train the canary model")
    # On the same file system, so that the model appears in one move. Only this directory is open to the container.
    staging = target.parent / f".{target.name}.{name}"
    container = c.Container(name=f"vmtool-{name}", image=image.reference, memory=MEMORY, writable=((staging, "/out"),),
                            command=("python3", "-P", "-m", "vmtool.serving.train_canary", "/out/model"))
    # A directory that is there keeps its mode and owner: it may be /tmp.
    parent = [] if target.parent.is_dir() else [p.MakeDir(target.parent, mode=0o755)]
    gone = c.removal(endpoint, container.name)
    user = f"work-{name}"
    return p.Plan(f"model {target}", directory, (
        plan_containerd(state, endpoint, user),
        p.Step(f"find the image {image.reference} ({image.digest[:19]}, {image.origin})", (
            ExpectDigest(endpoint, image.reference, image.digest, hint="vmtool image list"),)),
        p.Step("train the canary model", (
            *gone, p.Remove(staging), *parent, p.MakeDir(staging, uid=c.UID),
            p.Run(c.run_argv(endpoint, container, "--rm"), deadline=300),
            p.Run(("chown", "--recursive", "--no-dereference", "root:root", str(staging / "model"))),
            p.Run(("mv", "--no-target-directory", str(staging / "model"), str(target))), p.Remove(staging),
        ), undo=(*awake(state, endpoint), *gone, p.Remove(staging))),
        plan_release(state, endpoint, user),
    ))


def work_dir(state: State, target: Path) -> Path:
    """Where the making of the model at `target` is journalled."""
    return state.root / "work" / f"canary-{hashlib.sha256(os.fsencode(target)).hexdigest()[:8]}"


def is_canary(directory: Path) -> bool:
    """Whether the directory holds a whole canary model with this vmtool's questions."""
    try:
        record = json.loads((directory / "canary.json").read_text())
        pairs = tuple((pair["prompt"], pair["expect"]) for pair in record["pairs"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return pairs == PAIRS and all((directory / name).is_file() for name in ("config.json", "model.safetensors"))
