"""The metadata files of an image that got something: manifest, lock file and package list follow: a worker.

The image is refused when it is not what the old files still promise.
"""

from __future__ import annotations

from pathlib import Path

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.digest import read_content, sha256
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.lock_file import completed, read_lock
from vmtool.rootfs.metadata.manifest import Manifest, read_manifest, read_verity
from vmtool.rootfs.metadata.workers.write_metadata import (
    check_driver,
    check_toolkit,
    read_driver,
    read_kernel,
    toolkit_of,
    write_files,
)


@dataclass(frozen=True)
class Order:
    """What cannot be seen in the image.

    Args:
        directory: with layer.json, and perhaps packages.txt and verity.json; manifest.json, lock.json and spdx.json are
            written there.
        manifest: of what the image was.
        lock: its lock file; None when there is none.
        added, modules: what the manifest says besides from now on.
        driver: the file that describes a driver that came along; None when there is none.
        branch: that it must be of; empty for any.
    """

    directory: Path
    image: Path
    manifest: Path
    added: tuple[str, ...]
    lock: Path | None = None
    modules: tuple[str, ...] = ()
    driver: Path | None = None
    branch: str = ""


def run(order: Order, host: Host) -> None:
    """Write them.

    Raises:
        Refused: another kernel came along, the toolkit has a known hole, or the driver does not fit.
    """
    old, kernel = read_manifest(order.manifest), read_kernel(order.directory)
    packages, driver = read_lock(order.lock) if order.lock else ((), {})
    listing = order.directory / "packages.txt"
    if listing.exists():
        packages = completed(package_list.parse(listing.read_text(errors="replace")), packages)
    if old.kernel and kernel != old.kernel:
        raise Refused(f"the packages bring the kernel {kernel}, and the image is for {old.kernel}",
                      hint="name the kernel in the recipe, and build the image again")
    new_driver, toolkit = read_driver(order.driver), toolkit_of(packages)
    if toolkit:
        check_toolkit(toolkit)
    check_driver(new_driver, kernel, order.branch)
    write_files(host, order.directory, _changed(order, old, {
        "kernel": old.kernel or kernel, "toolkit": toolkit, "driver": new_driver.get("version", old.driver)}),
        packages, new_driver or driver)


def _changed(order: Order, old: Manifest, found: dict[str, str]) -> Manifest:
    modules = dict.fromkeys((*old.promises.modules, *order.modules))
    return old.model_copy(update={
        **read_content(order.image), "sha256": sha256(order.image), **found,
        "verity": read_verity(order.directory / "verity.json"), "added": (*old.added, *order.added),
        "promises": old.promises.model_copy(update={"modules": tuple(modules)})})
