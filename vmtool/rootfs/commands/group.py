"""`vmtool rootfs`: guest images. Only the module of the command that is typed is loaded."""

from __future__ import annotations

import click

from vmtool.cli.lazy import LazyGroup

COMMANDS = {
    "build": ("rootfs.commands.build", "Build an image from a recipe; unchanged input builds nothing."),
    "resize": ("rootfs.commands.resize", "Grow an image, its partition, hashes and manifest included."),
    "inspect": ("rootfs.commands.inspect", "Show what an image is, what is in it, and what Kata would miss."),
    "verify": ("rootfs.commands.inspect", "Hold an image against its manifest or a root hash."),
    "boot": ("rootfs.commands.boot", "Boot an image under QEMU, without changing it."),
    "add": ("rootfs.commands.add", "Put a file, the hook, packages or a driver into an image."),
}


@click.group(cls=LazyGroup, rooms=COMMANDS)
def rootfs_command() -> None:
    """Build, grow, add to, inspect, verify and boot guest images."""
