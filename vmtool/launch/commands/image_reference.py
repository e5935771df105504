"""What a guest image by itself shows: the root hash that its data lead to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vmtool.attest.measure.compute import Computed
from vmtool.errors import Refused, shell_word
from vmtool.foreign import open_file
from vmtool.rootfs.format.digest import sha256
from vmtool.rootfs.format.hash_tree import BLOCK, hash_tree
from vmtool.rootfs.format.image_file import manifest_path, read_image
from vmtool.rootfs.metadata.manifest import read_manifest
from vmtool.tee.table import BY_NAME

WHY = "a launch measures it; give the spec of one"


def image_values(path: Path) -> Computed:
    """The values.

    Raises:
        Refused: it is no guest image, or not what its manifest says.
    """
    image = read_image(path)
    if image.problem or not image.rootfs:
        raise Refused(f"{path}: {image.problem or 'no disk with a root file system'}",
                      hint="give a spec (NAME.yaml), or an image of vmtool rootfs build")
    launch: dict[str, Any] = {}
    missing = dict.fromkeys((*BY_NAME, "tpm"), WHY)
    kernel = path.with_name(f"{path.name}.vmlinuz")
    if kernel.exists():
        launch["kernel"] = sha256(kernel)
    manifest = read_manifest(manifest_path(path)) if os.path.lexists(manifest_path(path)) else None
    if not image.hashes or manifest is None or manifest.verity is None:
        missing["launch.root_hashes"] = "the image has no hash tree, or no manifest with its salt: build it with " \
                                        "verity: {} in its recipe"
    else:
        with open_file(path) as file:
            found, _ = hash_tree(file.fileno(), image.rootfs.start, manifest.verity.data_blocks * BLOCK,
                                 bytes.fromhex(manifest.verity.salt))
        if found != manifest.verity.root_hash:
            raise Refused(f"{path}: its data lead to the root hash {found}, its manifest says "
                          f"{manifest.verity.root_hash}", hint=f"vmtool rootfs verify {shell_word(path)}")
        launch["root_hashes"] = {"root": found}
    return Computed({"launch": launch}, missing)
