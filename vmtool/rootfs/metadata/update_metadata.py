"""The papers of an image that got something: manifest, lock file and package list follow; a program of vmtool's own.

    python -m vmtool.rootfs.metadata.update_metadata DIRECTORY IMAGE

DIRECTORY holds change.json, layer.json, and perhaps packages.txt and verity.json; manifest.json, lock.json and
spdx.json are written there. Refused when the image is not what the old papers still promise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.errors import Refused, VmtoolError
from vmtool.host import files
from vmtool.rootfs.format.digest import read_content, sha256
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.lock_file import completed, read_lock
from vmtool.rootfs.metadata.manifest import Manifest, manifest_text
from vmtool.rootfs.metadata.write_metadata import TOOLKIT, check, read_verity


def redescribe(directory: Path, image: Path) -> None:
    """Write the papers.

    Raises:
        Refused: another kernel came along, the toolkit has a known hole, or the driver does not fit.
    """
    given = json.loads((directory / "change.json").read_text())
    old = Manifest.model_validate(given["manifest"])
    before, driver = read_lock(Path(given["lock"])) if given["lock"] else ((), {})
    listing = directory / "packages.txt"
    packages = before
    if listing.exists():
        packages = completed(package_list.parse(listing.read_text(errors="replace")), before)
    kernel = json.loads((directory / "layer.json").read_text())["kernel"]
    if old.kernel and kernel != old.kernel:
        raise Refused(f"the packages bring the kernel {kernel}, and the image is for {old.kernel}",
                      hint="name the kernel in the recipe, and build the image anew")
    new_driver: dict[str, Any] = json.loads(Path(given["driver"]).read_text()) if given["driver"] else {}
    toolkit = next((each.version for each in packages if each.name == TOOLKIT), "")
    check({"toolkit": bool(toolkit), "branch": given["branch"]}, kernel, new_driver, toolkit)
    modules = dict.fromkeys((*old.promises.modules, *given["modules"]))
    manifest = old.model_copy(update={
        **read_content(image), "sha256": sha256(image),
        "verity": read_verity(directory / "verity.json"), "kernel": old.kernel or kernel, "toolkit": toolkit,
        "driver": new_driver.get("version", old.driver), "added": (*old.added, *given["added"]),
        "promises": old.promises.model_copy(update={"modules": tuple(modules)})})
    files.write(directory / "manifest.json", manifest_text(manifest), mode=0o644)
    files.write(directory / "lock.json", package_list.lock_text(old.recipe, packages, new_driver or driver), mode=0o644)
    files.write(directory / "spdx.json", package_list.spdx_text(manifest, packages), mode=0o644)


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) != 2:
        sys.exit(__doc__)
    try:
        redescribe(Path(words[0]), Path(words[1]))
    except VmtoolError as error:
        sys.exit("\n".join([*error.details, error.message, error.hint]).strip())


if __name__ == "__main__":
    main(sys.argv[1:])
