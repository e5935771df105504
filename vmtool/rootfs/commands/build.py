"""`vmtool rootfs build`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vmtool.architecture import BY_DEBIAN
from vmtool.cache import Cache
from vmtool.cli.apply_plan import show_or_apply
from vmtool.debian.tools import Tools, plan_tools, read_unpacked, tools_dir
from vmtool.errors import Refused
from vmtool.host import locks
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.plan import Plan
from vmtool.rootfs.build.facts import read_build
from vmtool.rootfs.build.plan import plan_build
from vmtool.rootfs.build.plan_driver import plan_driver
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.format.image_file import manifest_path
from vmtool.rootfs.metadata.lock_file import read_lock
from vmtool.rootfs.metadata.manifest import read_manifest
from vmtool.rootfs.recipe.load import find_rootfs_recipe, read_rootfs_recipe


@click.command()
@click.argument("recipe")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the image goes [NAME.img].")
@click.option("--arch", type=click.Choice(list(BY_DEBIAN)), help="In the place of the recipe's.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--no-cache", is_flag=True, help="Make everything again, also with the same input.")
@click.option("--lock", "lock_file", type=click.Path(path_type=Path),
              help="Lock file of an earlier build: fail when a package or the driver differs from it.")
@click.pass_obj
def build_command(state: State, recipe: str, output: Path | None, arch: str | None, dry_run: bool, no_cache: bool,
                  lock_file: Path | None) -> None:
    """Build RECIPE: a folder of images/, a directory or a file. Unchanged input builds nothing."""
    read = read_rootfs_recipe(find_rootfs_recipe(recipe), arch=arch or "")
    out = (output or Path(f"{read.name}.img")).absolute()
    if not out.parent.is_dir():
        raise Refused(f"{out.parent}: no such directory")
    if lock_file:
        lock_file = lock_file.absolute()
        read_lock(lock_file)
    store, machine = Store(Cache.at()), LocalMachine()
    directory = state.root / "rootfs" / f"build-{read.name}"

    def make() -> Plan:
        facts = read_build(machine, store, read, out, os.environ)
        step = plan_tools(read_unpacked(machine, store.cache), store.cache, facts.options, facts.environment)
        own = Tools(tools_dir(store.cache), os.uname().machine)
        return plan_build(directory, store, read, facts, step, own, out, fresh=no_cache, lock=lock_file,
                          driver_step=plan_driver(store, read, facts, own))

    doing = f"vmtool rootfs build {read.name}"
    if dry_run:
        show_or_apply(state, directory, doing, make, True)
        return
    with locks.Lock(store.lock, doing):
        show_or_apply(state, directory, doing, make, False)
    reported = read_manifest(manifest_path(out))
    click.echo(f"{out}\nsha256     {reported.sha256}")
    if reported.verity:
        click.echo(f"root hash  {reported.verity.root_hash}")
    click.echo(f"next: vmtool rootfs verify {out.name}   vmtool rootfs boot {out.name}")
