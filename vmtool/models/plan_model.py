"""The plan of a model that an image's own Python makes, in a one-off container without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from vmtool import plan as p
from vmtool.containerd import container as c
from vmtool.containerd.endpoint import Endpoint, awake, plan_containerd
from vmtool.containerd.leases import lease_mark
from vmtool.errors import Refused
from vmtool.findings import refuse
from vmtool.frozen import dataclass
from vmtool.image.actions import ExpectDigest
from vmtool.image.check import check_image, check_user
from vmtool.image.pinned_image import PinnedImage
from vmtool.image.plan_import import plan_release
from vmtool.models.target_facts import ModelTarget
from vmtool.models.workers import collect
from vmtool.paths import State

MEMORY = 4 << 30


@dataclass(frozen=True)
class Maker:
    """How a model is made.

    Args:
        kind: the command's word for it, which work directories and containers are named after.
        title: what is done, for a person.
        command: of the container, without its last word, the directory to make.
        binds: (host path, path inside) that it reads.
        deadline: seconds.
        size: bytes that the model may have.
    """

    kind: str
    title: str
    command: tuple[str, ...]
    binds: tuple[tuple[Path, str], ...] = ()
    deadline: float = 300.0
    size: int = 256 << 20


def plan_model(state: State, endpoint: Endpoint, image: PinnedImage, found: ModelTarget, maker: Maker) -> p.Plan:
    """From nothing to a model directory.

    Args:
        image: whose Python makes it.
        found: absolute path, and what is there: nothing, an empty directory, or the same model.

    Raises:
        Refused: something else is there, or the image would run as root.
        NotReady: there is no such image.
    """
    target, directory = found.path, work_dir(state, found.path, maker.kind)
    if found.made:
        return p.Plan(f"model {target}", directory, (p.Step(maker.title, skip=f"{target} holds it"),))
    if not found.free:
        raise Refused(f"{target} holds something that is not this vmtool's {maker.kind} model",
                      hint="choose another directory, or remove it")
    refuse([*check_image(image), *check_user(image)], f"{image.reference} cannot make the {maker.kind} model")
    user = f"work-{directory.name}"
    return p.Plan(f"model {target}", directory, (
        plan_containerd(state, endpoint, user),
        p.Step(f"find the image {image.reference} ({image.digest[:19]}, {image.origin})", (
            ExpectDigest(endpoint, image.reference, image.digest, hint="vmtool image list"),)),
        _making(state, endpoint, image, found, maker, directory),
        plan_release(state, endpoint, user),
    ))


def _making(state: State, endpoint: Endpoint, image: PinnedImage, found: ModelTarget, maker: Maker, directory: Path
            ) -> p.Step:
    """Make it in a container, and put it into its place."""
    target, name = found.path, directory.name
    # Only this directory is open to the container. What it leaves there is copied next to the target, so that the model
    # appears in one move.
    staging, new = directory / "out", target.parent / f".{target.name}.{name}"
    fifos = directory / "fifo"
    container = c.Container(name=f"vmtool-{name}", image=image.reference, memory=MEMORY, binds=maker.binds,
                            writable=((staging, "/out"),), command=(*maker.command, "/out/model"))
    # A directory that is there keeps its mode and owner: it may be /tmp.
    parent = [] if found.parent else [p.MakeDir(target.parent, mode=0o755)]
    mark = lease_mark(state, directory)
    gone = c.removal(endpoint, container.name, mark)
    return p.Step(maker.title, (
        *gone, p.Remove(staging), p.Remove(new), *parent, p.MakeDir(staging, uid=c.UID),
        *c.start(endpoint, container, mark, "--rm", "--fifo-dir", str(fifos), deadline=maker.deadline),
        p.run_worker(collect.Order(staging / "model", new, target, maker.size), deadline=60), p.Remove(staging),
        p.Remove(fifos),
    ), undo=(*awake(state, endpoint), *gone, p.Remove(fifos), p.Remove(staging), p.Remove(new)))


def work_dir(state: State, target: Path, kind: str) -> Path:
    """Where the making of the model at `target` is journalled."""
    return state.root / "work" / f"{kind}-{hashlib.sha256(bytes(target)).hexdigest()[:8]}"
