"""The manifest of what a changed image has become: a worker."""

from __future__ import annotations

from pathlib import Path

from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.digest import read_content


@dataclass(frozen=True)
class Order:
    """What it is made of.

    Args:
        manifest: of what the image was.
        verity: the file with the values of its new hashes; it need not be there.
        hook: path of a hook that the image promises from now on; empty for the one that it promised.
    """

    manifest: Path
    image: Path
    out: Path
    verity: Path
    hook: str = ""


def run(order: Order, host: Host) -> None:
    """Write it. The image's sha256 goes: hashing gigabytes of holes would take too long."""
    from vmtool.rootfs.metadata.manifest import manifest_text, read_manifest, read_verity  # pydantic is heavy

    old = read_manifest(order.manifest)
    promises = old.promises.model_copy(update={"hook": order.hook or old.promises.hook})
    changed = old.model_copy(update={**read_content(order.image), "sha256": None, "verity": read_verity(order.verity),
                                     "promises": promises})
    host.write(order.out, manifest_text(changed), mode=0o644)
