"""The metadata files of a built image: manifest, lock file and package list: a worker.

The image is refused when it is not what was asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.machine import Host
from vmtool.rootfs.format.digest import read_content, sha256
from vmtool.rootfs.inspect.kata_requirements import TOOLKIT_LEAST, is_safe
from vmtool.rootfs.metadata import packages as package_list
from vmtool.rootfs.metadata.manifest import Manifest, Promises, manifest_text, read_verity

TOOLKIT = "nvidia-container-toolkit"


@dataclass(frozen=True)
class Order:
    """What cannot be seen in the image.

    Args:
        directory: with rootfs.img, layer.json and perhaps verity.json; manifest.json, lock.json and spdx.json are
            written there.
        name, recipe: of the recipe, its name and its digest.
        target, units, hook, modules: what the image promises.
        packages: the list of what was installed.
        driver: the file that describes NVIDIA's driver; None when there is none.
        branch: that the driver must be of; empty for any.
        toolkit: whether NVIDIA's container toolkit was asked for.
        agent: Kata's; None when there is none.
    """

    directory: Path
    name: str
    recipe: str
    architecture: str
    layout: str
    filesystem: str
    epoch: int
    packages: Path
    target: str = ""
    units: tuple[str, ...] = ()
    hook: str = ""
    modules: tuple[str, ...] = ()
    driver: Path | None = None
    branch: str = ""
    toolkit: bool = False
    agent: Path | None = None


def run(order: Order, host: Host) -> None:
    """Write them.

    Raises:
        Refused: the toolkit is one with a known hole, or the driver is of another branch or kernel than asked for.
    """
    directory, image = order.directory, order.directory / "rootfs.img"
    kernel = read_kernel(directory)
    packages = package_list.parse(order.packages.read_text(errors="replace"))
    driver, toolkit = read_driver(order.driver), toolkit_of(packages)
    if order.toolkit:
        check_toolkit(toolkit)
    check_driver(driver, kernel, order.branch)
    manifest = Manifest.model_validate({
        "name": order.name, "recipe": order.recipe, "architecture": order.architecture, "layout": order.layout,
        "filesystem": order.filesystem, "epoch": order.epoch, **read_content(image), "sha256": sha256(image),
        "promises": Promises(target=order.target, units=order.units, hook=order.hook, modules=order.modules,
                             agent=order.agent is not None),
        "verity": read_verity(directory / "verity.json"), "kernel": kernel, "driver": driver.get("version", ""),
        "toolkit": toolkit, "agent_sha256": sha256(order.agent) if order.agent else ""})
    write_files(host, directory, manifest, packages, driver)


def write_files(host: Host, directory: Path, manifest: Manifest, packages: Sequence[package_list.Package],
                driver: dict[str, Any]) -> None:
    """Write the three files."""
    host.write(directory / "manifest.json", manifest_text(manifest), mode=0o644)
    host.write(directory / "lock.json", package_list.lock_text(manifest.recipe, packages, driver), mode=0o644)
    host.write(directory / "spdx.json", package_list.spdx_text(manifest, packages), mode=0o644)


def read_kernel(directory: Path) -> str:
    """The release that `vmtool.rootfs.build.workers.merge_layers` found."""
    return str(parse_json((directory / "layer.json").read_text())["kernel"])


def read_driver(path: Path | None) -> dict[str, Any]:
    """What `vmtool.rootfs.build.workers.nvidia_modules` wrote; nothing without a driver."""
    found: dict[str, Any] = parse_json(path.read_text()) if path else {}
    return found


def toolkit_of(packages: Sequence[package_list.Package]) -> str:
    """The version of NVIDIA's container toolkit; empty when it is not there."""
    return next((each.version for each in packages if each.name == TOOLKIT), "")


def check_toolkit(version: str) -> None:
    """Raise Refused for a toolkit that must not be given out, or that is absent."""
    if not is_safe(version):
        least = ".".join(map(str, TOOLKIT_LEAST))
        raise Refused(f"{TOOLKIT} {version or '(absent)'} is refused: it must be at least {least}",
                      details=["older ones let a container out (CVE-2025-23359)"])


def check_driver(driver: dict[str, Any], kernel: str, branch: str) -> None:
    """Raise Refused for a driver of another kernel, or of another branch than was asked for."""
    if driver and driver["kernel"] != kernel:
        raise Refused(f"the driver was compiled for {driver['kernel']}, and the image's kernel is {kernel}",
                      hint="the package archive changed between the two: build once more with --no-cache")
    if driver and branch and driver["version"].partition(".")[0] != branch:
        raise Refused(f"the driver is {driver['version']}, and the recipe requires branch {branch}")
