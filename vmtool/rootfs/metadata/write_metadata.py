"""An image's manifest, lock file and package list; refused when the image is not what was asked for or promised.

    python -m vmtool.rootfs.metadata.write_metadata DIRECTORY
    python -m vmtool.rootfs.metadata.write_metadata DIRECTORY IMAGE

manifest.json, lock.json and spdx.json are written to DIRECTORY. It holds layer.json, perhaps verity.json, and of an
image that was built rootfs.img and describe.json; of IMAGE, to which something was added, change.json and perhaps
packages.txt.
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
from vmtool.rootfs.format.hash_tree import Verity
from vmtool.rootfs.inspect.kata_requirements import TOOLKIT_LEAST, is_safe
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.lock_file import completed, read_lock
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, manifest_text

TOOLKIT = "nvidia-container-toolkit"


def describe(directory: Path) -> None:
    """Write them for an image that was built.

    Raises:
        Refused: the toolkit is one with a known hole, or the driver is of another branch or kernel than asked for.
    """
    given = json.loads((directory / "describe.json").read_text())
    kernel = json.loads((directory / "layer.json").read_text())["kernel"]
    packages = package_list.parse(Path(given["packages"]).read_text(errors="replace"))
    driver = json.loads(Path(given["driver"]).read_text()) if given["driver"] else {}
    toolkit = next((each.version for each in packages if each.name == TOOLKIT), "")
    check(given, kernel, driver, toolkit)
    values = read_verity(directory / "verity.json")
    image = directory / "rootfs.img"
    manifest = Manifest.model_validate({
        **{name: given[name] for name in ("name", "recipe", "architecture", "layout", "filesystem", "epoch",
                                          "promises")},
        **read_content(image), "sha256": sha256(image), "verity": values,
        "kernel": kernel, "driver": driver.get("version", ""), "toolkit": toolkit,
        "agent_sha256": sha256(Path(given["agent"])) if given["agent"] else ""})
    write(directory, manifest, packages, driver)


def redescribe(directory: Path, image: Path) -> None:
    """Write them for an image that something was added to.

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
    write(directory, manifest, packages, new_driver or driver)


def write(directory: Path, manifest: Manifest, packages: tuple[package_list.Package, ...],
          driver: dict[str, Any]) -> None:
    """Write the three files."""
    files.write(directory / "manifest.json", manifest_text(manifest), mode=0o644)
    files.write(directory / "lock.json", package_list.lock_text(manifest.recipe, packages, driver), mode=0o644)
    files.write(directory / "spdx.json", package_list.spdx_text(manifest, packages), mode=0o644)


def check(given: dict[str, Any], kernel: str, driver: dict[str, Any], toolkit: str) -> None:
    """Raise Refused for an image that must not be given out."""
    least = ".".join(map(str, TOOLKIT_LEAST))
    if given["toolkit"] and not is_safe(toolkit):
        raise Refused(f"{TOOLKIT} {toolkit or '(absent)'} is refused: it must be at least {least}",
                      details=["older ones let a container out (CVE-2025-23359)"])
    if driver and driver["kernel"] != kernel:
        raise Refused(f"the driver was compiled for {driver['kernel']}, and the image's kernel is {kernel}",
                      hint="the package archive changed between the two: build once more with --no-cache")
    if driver and given["branch"] and driver["version"].partition(".")[0] != given["branch"]:
        raise Refused(f"the driver is {driver['version']}, and the recipe wants branch {given['branch']}")


def read_verity(path: Path) -> VerityPart | None:
    """What `vmtool.rootfs.build.workers.image_bytes label` wrote; None when the image has no hashes."""
    if not path.exists():
        return None
    values = json.loads(path.read_text())
    return VerityPart(**values, kernel_verity_params=Verity(**values).kernel_params)


def main(words: Sequence[str]) -> None:
    """See the module's docstring."""
    if len(words) not in (1, 2):
        sys.exit(__doc__)
    try:
        describe(*map(Path, words)) if len(words) == 1 else redescribe(*map(Path, words))
    except VmtoolError as error:
        sys.exit("\n".join([*error.details, error.message, error.hint]).strip())


if __name__ == "__main__":
    main(sys.argv[1:])
