"""What is in a guest image, read without a guest: system, kernels, driver, toolkit, hooks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmtool.findings import Finding, finding
from vmtool.frozen import dataclass
from vmtool.rootfs.inspect.kata_requirements import HOOKS, check_hooks, check_kata, check_toolkit
from vmtool.rootfs.inspect.tree import Tree, resolve

MODULE_DIRS = ("updates/dkms", "updates", "extra", "kernel/drivers/video", "weak-updates")
MODULES = 80 << 20
_STATUS = 32 << 20


@dataclass(frozen=True)
class Module:
    """A kernel module: its path, the kernel that it was compiled for ("" when unreadable), and its version."""

    path: str
    kernel: str
    vermagic: str
    version: str


@dataclass(frozen=True)
class Contents:
    """What was found.

    Args:
        system: such as "Debian GNU/Linux 12 (bookworm)"; empty when it does not say.
        kernels: releases that it has modules for.
        modules: NVIDIA's.
        toolkit: version of nvidia-container-toolkit; empty when absent or unknown.
        hooks: names in the prestart directory.
    """

    system: str
    kernels: tuple[str, ...]
    modules: tuple[Module, ...]
    toolkit: str
    has_toolkit: bool
    hooks: tuple[str, ...]


def read_contents(tree: Tree) -> Contents:
    """Look."""
    release = tree.text("/etc/os-release") or tree.text("/usr/lib/os-release") or ""
    pretty = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
    kernels = tree.names("/usr/lib/modules") or tree.names("/lib/modules")
    status = tree.text("/var/lib/dpkg/status", _STATUS) or ""
    paragraph = re.search(r"^Package: nvidia-container-toolkit\n(?:.+\n)*?Version: (\S+)", status, re.MULTILINE)
    return Contents(pretty[1] if pretty else "", kernels, tuple(_modules(tree, kernels)),
                    paragraph[1] if paragraph else "",
                    resolve(tree, "/usr/bin/nvidia-container-toolkit")[1] is not None,
                    tree.names(f"{HOOKS}/prestart"))


def check_contents(tree: Tree, found: Contents) -> Iterator[Finding]:
    """Everything that Kata or a GPU guest would miss."""
    yield from check_kata(tree)
    yield from check_hooks(tree)
    yield from check_toolkit(found.toolkit, found.has_toolkit)
    yield from check_modules(found.modules)


def check_modules(modules: tuple[Module, ...]) -> Iterator[Finding]:
    """Whether the driver was compiled for the kernel that it lies with."""
    if not modules:
        yield finding("driver.present", "NVIDIA driver", "warn", "no nvidia module for any kernel",
                      "name it in the recipe's `driver`")
    for module in modules:
        built = module.vermagic.partition(" ")[0]
        title = f"module {module.path.rpartition('/')[2]}"
        if not built:
            yield finding("driver.vermagic", title, "not-checked", f"{module.path} cannot be read here (compressed?)",
                          "vmtool rootfs boot IMAGE asks the guest's modinfo")
            continue
        yield finding("driver.vermagic", title, "ok" if built == module.kernel else "fail",
                      f"{module.version or 'no version'}, for {built}" + (
                          "" if built == module.kernel else f", and lies with {module.kernel}"),
                      "build the driver with this image's kernel")


def _modules(tree: Tree, kernels: tuple[str, ...]) -> Iterator[Module]:
    for kernel in kernels:
        for directory in MODULE_DIRS:
            place = f"/usr/lib/modules/{kernel}/{directory}"
            for name in tree.names(place) or tree.names(place.removeprefix("/usr")):
                if re.match(r"nvidia[\w-]*\.ko", name):
                    yield _module(tree, kernel, f"{place}/{name}")


def _module(tree: Tree, kernel: str, path: str) -> Module:
    """A module's own words (Linux, include/linux/module.h: NAME=VALUE texts in the section .modinfo)."""
    text = (tree.text(path, MODULES) or tree.text(path.removeprefix("/usr"), MODULES) or "") if path.endswith(
        ".ko") else ""
    vermagic = re.search(r"\0vermagic=([^\0]{1,200})\0", text)
    version = re.search(r"\0version=([^\0]{1,60})\0", text)
    return Module(path, kernel, vermagic[1] if vermagic else "", version[1] if version else "")
