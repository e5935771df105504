"""`vmtool rootfs add`: the hook, a file, packages or the driver into an image that is there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from vmtool.cli.apply_plan import show_or_apply
from vmtool.errors import Refused, shell_word
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.rootfs.add.plan_file import Addition, plan_add
from vmtool.rootfs.add.plan_guestfs import is_foreign
from vmtool.rootfs.commands.add_package import add_driver, add_package
from vmtool.rootfs.commands.foreign import put_foreign
from vmtool.rootfs.commands.shared import IMAGE, bring_back, find_manifest, tools, work_dir
from vmtool.rootfs.format.image_file import read_image
from vmtool.rootfs.format.image_users import lasting_users
from vmtool.rootfs.inspect.kata_requirements import HOOKS
from vmtool.rootfs.recipe.models import guest_path
from vmtool.rootfs.recipe.overlay import HOOK, TRACE, render


@click.group("add")
def add_command() -> None:
    """Put the hook, a file, packages or the driver into IMAGE, which is there; hashes and metadata files follow.

    Packages and the driver want an ext4 image of Kata's layouts; the hook and files get into foreign ones too.
    """


@add_command.command("hook")
@IMAGE
@click.option("--path", default=HOOKS, show_default=True, help="Kata's guest_hook_path.")
@click.option("--toolkit", default="/usr/bin/nvidia-container-toolkit", show_default=True, help="The program it calls.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def add_hook(state: State, image: Path, path: str, toolkit: str, dry_run: bool) -> None:
    """Put the prestart hook into IMAGE."""
    text = render("prestart-hook.sh", toolkit=inside(toolkit), trace=TRACE)
    put(state, image, Addition(f"{inside(path)}/prestart/{HOOK}", 0o755, text=text, hook=True), dry_run)


@add_command.command("file")
@IMAGE
@click.argument("path")
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--mode", default="", metavar="OCTAL", help="[the file's own]")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def add_file(state: State, image: Path, path: str, source: Path, mode: str, dry_run: bool) -> None:
    """Put the file SOURCE into IMAGE as PATH, owned by root."""
    if mode and not re.fullmatch(r"[0-7]{3,4}", mode):
        raise Refused(f"--mode {mode}: three or four octal digits, as for chmod")
    if '"' in str(source):
        raise Refused(f"{source}: debugfs takes no quote in a path", hint="rename the file")
    bits = int(mode, 8) if mode else source.stat().st_mode & 0o7777
    put(state, image, Addition(inside(path), bits, source=source.absolute()), dry_run)


def inside(path: str) -> str:
    """A path inside the guest.

    Raises:
        Refused: it is none.
    """
    try:
        return guest_path(path)
    except ValueError as error:
        raise Refused(f"{path}: {error}") from error


def put(state: State, image: Path, addition: Addition, dry_run: bool) -> None:
    """Put something into an image, and say what is next."""
    image = image.resolve()
    directory = work_dir(state, image)
    if not dry_run:
        bring_back(state, image)

    def make() -> Plan:
        users = lasting_users(LocalMachine(), str(image), own=os.getpid())
        return plan_add(directory, read_image(image), users, find_manifest(image, None), addition,
                        tools("debugfs", "e2fsck"))

    if is_foreign(read_image(image)):
        changed = put_foreign(state, image, addition, dry_run)
        after = "inspect"
    else:
        changed, after = show_or_apply(state, directory, f"vmtool rootfs add {image.name}", make, dry_run), "verify"
    if changed:
        click.echo(f"{addition.path} is in {image}; next: vmtool rootfs {after} {shell_word(image)}")


add_command.add_command(add_package)
add_command.add_command(add_driver)
