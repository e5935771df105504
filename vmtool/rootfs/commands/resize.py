"""`vmtool rootfs resize`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vmtool.cli.apply_plan import show_or_apply
from vmtool.errors import shell_word
from vmtool.facts.memory import read_disk
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.rootfs.commands.shared import IMAGE, bring_back, find_manifest, tools, work_dir
from vmtool.rootfs.format.image_file import manifest_path, read_image
from vmtool.rootfs.format.image_users import lasting_users
from vmtool.rootfs.grow.plan import ResizeFacts, check_growable, parse_growth, plan_resize


@click.command()
@IMAGE
@click.argument("size", metavar="(+20G|40G)")
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--copy", is_flag=True, help="Repair and grow a copy, also when the image can grow in its place.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def resize_command(state: State, image: Path, size: str, manifest_file: Path | None, copy: bool, dry_run: bool) -> None:
    """Grow IMAGE by or to a size, file system, partition, hashes and manifest included."""
    image = image.resolve()
    directory, beside = work_dir(state, image), manifest_path(image)
    if not dry_run:
        bring_back(state, image)
    wanted = parse_growth(size, read_image(image).size)

    def make() -> Plan:
        found = read_image(image)
        check_growable(found)
        machine = LocalMachine()
        facts = ResizeFacts(found, lasting_users(machine, str(image), own=os.getpid()),
                            read_disk(machine, str(image.parent)).free, find_manifest(image, manifest_file),
                            manifest_file.absolute() if manifest_file else beside, beside.exists())
        return plan_resize(directory, facts, wanted, tools("debugfs", "e2fsck", "resize2fs"), copy=copy)

    if show_or_apply(state, directory, f"vmtool rootfs resize {image.name}", make, dry_run):
        click.echo(f"{image} has {read_image(image).size} bytes now; next: vmtool rootfs verify {shell_word(image)}")
