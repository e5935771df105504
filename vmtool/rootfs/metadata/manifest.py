"""The manifest beside an image, IMAGE.manifest.json: what it was when it was built, and what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vmtool.architecture import DebianName
from vmtool.errors import Refused
from vmtool.foreign import parse_json, read_regular
from vmtool.rootfs.format.hash_tree import Verity
from vmtool.schema import Strict

# With the digests of 50 GiB of data.
LARGEST = 4 << 20
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=512)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VerityPart(Strict):
    """dm-verity's values; see `vmtool.rootfs.format.hash_tree.Verity`."""

    root_hash: Digest
    salt: Hex
    data_blocks: Annotated[int, Field(gt=0)]
    kernel_verity_params: str = ""


class Promises(Strict):
    """What a boot must find.

    Args:
        target: the systemd unit that a boot must reach.
        units: further ones that must be active.
        hook: path of the prestart hook; empty when none is promised.
        modules: names of kernel modules that must fit the kernel.
        agent: whether Kata's agent must run.
    """

    target: str = ""
    units: tuple[str, ...] = ()
    hook: str = ""
    modules: tuple[str, ...] = ()
    agent: bool = False


class Manifest(Strict):
    """The whole of it. `sha256` is absent once the image was grown; `content` is always there: see `digest.py`.

    `pieces` are what `content` is made of, so that a growth need not read what it leaves as it is: what has been
    changed since the build besides does not become right by it.
    `added` is what came after the build, and so is not in the recipe: lines such as "package curl".
    """

    schema_: Annotated[Literal["vmtool/rootfs/v1"], Field(alias="schema")] = "vmtool/rootfs/v1"
    name: str
    recipe: Digest
    architecture: DebianName
    layout: Literal["bare", "kata", "kata-dax", "initrd"]
    filesystem: Literal["ext4", "erofs", "cpio"]
    size: Annotated[int, Field(gt=0)]
    sha256: Digest | None = None
    content: Digest
    verity: VerityPart | None = None
    kernel: str = ""
    driver: str = ""
    toolkit: str = ""
    agent_sha256: str = ""
    added: tuple[str, ...] = ()
    epoch: int = 0
    promises: Promises = Promises()
    pieces: dict[Annotated[int, Field(ge=0)], Digest] = Field(default_factory=dict)


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        Refused: it is absent or is none.
    """
    try:
        data = read_regular(path, LARGEST + 1)
        if len(data) > LARGEST:
            raise Refused(f"{path}: too large for a manifest")
        return Manifest.model_validate_json(data)
    except OSError as error:
        raise Refused(f"{path}: {(error.strerror or 'cannot be read').lower()}",
                      hint="name the manifest with --manifest FILE") from error
    except ValidationError as error:
        places = [f"{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in error.errors()[:6]]
        raise Refused(f"{path}: not a manifest of an image", details=places) from error


def manifest_text(manifest: Manifest) -> str:
    """The same manifest gives the same bytes."""
    return json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=1) + "\n"


def read_verity(path: Path) -> VerityPart | None:
    """What `vmtool.rootfs.build.workers.write_headers` wrote; None when the image has no hashes."""
    if not path.exists():
        return None
    values = parse_json(path.read_text())
    return VerityPart(**values, kernel_verity_params=Verity(**values).kernel_params)
