"""The digest of an image file: a worker, since a large one takes its time."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.digest import content_digest, sha256


@dataclass(frozen=True)
class Order:
    """The file, and how it is digested: see `vmtool.rootfs.format.digest`."""

    kind: Literal["sha256", "content"]
    path: Path


def run(order: Order, host: Host) -> None:
    """Print the digest."""
    print((sha256 if order.kind == "sha256" else content_digest)(order.path))
