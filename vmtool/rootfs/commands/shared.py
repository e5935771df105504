"""What the commands on guest images share: the manifest, the tools, and bringing an image back."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vmtool.cache import Cache
from vmtool.cli.apply_plan import show_or_apply
from vmtool.debian.tools import Tools, read_tools
from vmtool.errors import NotReady
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.rootfs.format.image_file import is_grow_interrupted, manifest_path
from vmtool.rootfs.format.image_users import lasting_users
from vmtool.rootfs.grow.plan_in_place import plan_back

if TYPE_CHECKING:
    from vmtool.rootfs.metadata.manifest import Manifest

IMAGE = click.argument("image", type=click.Path(path_type=Path))


def find_manifest(image: Path, named: Path | None) -> Manifest | None:
    """The manifest that was named, or the one beside the image; None when there is none."""
    beside = manifest_path(image)
    if not named and not beside.exists():
        return None
    from vmtool.rootfs.metadata.manifest import read_manifest  # pydantic is heavy, and many images have no manifest

    return read_manifest(named or beside)


def tools(*needed: str) -> Tools:
    """The file-system tools; see `read_tools`."""
    return read_tools(LocalMachine(), Cache.at(), *needed)


def work_dir(state: State, image: Path) -> Path:
    """Where the journal of changes to an image lies: named by its path, so that two changes never meet."""
    return state.root / "rootfs" / f"image-{hashlib.sha256(os.fsencode(image)).hexdigest()[:12]}"


def bring_back(state: State, image: Path) -> None:
    """Undo a growth of the image that was interrupted, whichever state directory it was begun with."""
    if not is_grow_interrupted(image):
        return

    def make() -> Plan:
        if users := lasting_users(LocalMachine(), str(image), own=os.getpid()):
            raise NotReady(f"{image} is in use", details=users, hint="end what uses it, then try again")
        back = plan_back(image)
        return Plan(f"undo of {image.name}", work_dir(state, image),
                    (Step("bring the image back: growing it was interrupted", back, undo=back, waits_only=True),))

    show_or_apply(state, work_dir(state, image), f"undo of {image.name}", make, dry_run=False)
