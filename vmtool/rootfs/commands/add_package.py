"""`vmtool rootfs add package` and `add driver`: what needs the image's whole tree."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vmtool.architecture import BY_DEBIAN, architecture_of
from vmtool.cache import Cache
from vmtool.cli.apply_plan import show_or_apply
from vmtool.debian.tools import Tools, plan_tools, read_unpacked, tools_dir
from vmtool.errors import NotReady, Refused, shell_word
from vmtool.facts.memory import read_disk
from vmtool.host.local import LocalMachine
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.rootfs.add.package_facts import read_debian, read_wanted
from vmtool.rootfs.add.plan_driver import change_driver, driver_of
from vmtool.rootfs.add.plan_package import change_debian, change_rpm
from vmtool.rootfs.add.plan_rebuild import ExistingImage, ImageChange, check, plan_rebuild
from vmtool.rootfs.build.facts import Supply, present, read_supply
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.commands.shared import IMAGE, bring_back, find_manifest, tools, work_dir
from vmtool.rootfs.format.image_file import read_image
from vmtool.rootfs.format.image_users import lasting_users
from vmtool.rootfs.inspect.tree import Tree, open_tree
from vmtool.rootfs.recipe.gpu_support import check_fit, read_gpus
from vmtool.rootfs.recipe.load import find_rootfs_recipe, read_rootfs_recipe
from vmtool.rootfs.recipe.models import Debian, Recipe

RECIPE = click.option("--recipe", help="Whose package sources are used [the image's own release].")
COMPONENT = click.option("--component", "components", multiple=True, metavar="NAME",
                         help="Of the release's archive, besides main; with --recipe, its own count.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")


@click.command("package")
@IMAGE
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@RECIPE
@COMPONENT
@DRY_RUN
@click.pass_obj
def add_package(state: State, image: Path, names: tuple[str, ...], recipe: str | None, components: tuple[str, ...],
                dry_run: bool) -> None:
    """Install packages into IMAGE, by name or as .deb and .rpm files, with what they depend on."""
    read = read_recipe(recipe)

    def change(old: ExistingImage, tree: Tree, arch: str, machine: Reader, own: Tools) -> ImageChange:
        if read and read.rpm:
            need(machine, "dnf", "rpm")
            return change_rpm(old.scratch, read.rpm, arch, read_wanted(names, ".rpm"), supply(machine, None))
        debian = read.debian if read and read.debian else read_debian(tree, ("main", *components))
        return change_debian(old.scratch, debian, arch, read_wanted(names, ".deb"), supply(machine, debian))

    add_to_image(state, image, change, dry_run)


@click.command("driver")
@IMAGE
@click.option("--package", "packages", multiple=True, metavar="NAME",
              help="With NVIDIA's open modules as source, such as nvidia-open-kernel-dkms.")
@click.option("--run", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="NVIDIA's installer.")
@click.option("--source", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="With --run: the kernel's source tree, or its headers.")
@click.option("--modules", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Modules that were compiled before.")
@click.option("--branch", metavar="NUMBER", help="Such as 550; another one is refused.")
@click.option("--gpu", multiple=True, metavar="TYPE|10de:ID", help="That it is for, such as nvidia-h100 [this host's].")
@RECIPE
@COMPONENT
@DRY_RUN
@click.pass_obj
def add_driver(state: State, /, image: Path, recipe: str | None, components: tuple[str, ...], dry_run: bool,
               **ways: Any) -> None:
    """Put NVIDIA's kernel modules into IMAGE, compiled for the kernel that it has modules of."""
    driver, read = driver_of(ways), read_recipe(recipe)
    check_fit(image.name, driver, read_gpus(LocalMachine()))

    def change(old: ExistingImage, tree: Tree, arch: str, machine: Reader, own: Tools) -> ImageChange:
        debian = (read.debian if read else read_debian(tree, ("main", *components))) if driver.packages else None
        return change_driver(old.scratch, tree, arch, debian, driver, supply(machine, debian), own)

    add_to_image(state, image, change, dry_run)


def add_to_image(state: State, image: Path, change: Callable[[ExistingImage, Tree, str, Reader, Tools], ImageChange],
                 dry_run: bool) -> None:
    """Make an image again with a change, and say what is next."""
    image, machine, cache = image.resolve(), LocalMachine(), Cache.at()
    directory = work_dir(state, image)
    if not dry_run:
        bring_back(state, image)

    def make() -> Plan:
        found, manifest = read_image(image), find_manifest(image, None)
        scratch = Store(cache).scratch(directory.name)
        free = [read_disk(machine, str(place)).free for place in (image.parent, cache.root)]
        users = lasting_users(machine, str(image), own=os.getpid())
        old = ExistingImage(found, users, manifest, present(machine, image), scratch,
                            min((each for each in free if each is not None), default=None))
        check(old)
        need(machine, "mmdebstrap", "unshare")
        arch = manifest.architecture if manifest else architecture_of(os.uname().machine).debian
        if BY_DEBIAN[arch].machine != os.uname().machine:
            raise Refused(f"{image} is for {arch}, whose programs do not run here",
                          hint="put it into the recipe: vmtool rootfs build RECIPE --arch emulates them")
        step, own = own_tools(machine, cache)
        tree = open_tree(machine, tools("debugfs"), found)
        return plan_rebuild(directory, old, change(old, tree, arch, machine, own), own, before=(step,))

    if show_or_apply(state, directory, f"vmtool rootfs add {image.name}", make, dry_run):
        click.echo(f"{image} has it, and a new root hash when it has one; "
                   f"next: vmtool rootfs verify {shell_word(image)}")


def own_tools(machine: Reader, cache: Cache) -> tuple[Step, Tools]:
    """The tools that give the same bytes each time, and the step that unpacks them."""
    settings = read_supply(machine, "", os.environ)
    return (plan_tools(read_unpacked(machine, cache), cache, settings["options"], settings["environment"]),
            Tools(tools_dir(cache), os.uname().machine))


def read_recipe(name: str | None) -> Recipe | None:
    """The recipe that was named; None when none was."""
    return read_rootfs_recipe(find_rootfs_recipe(name)) if name else None


def supply(machine: Reader, debian: Debian | None) -> Supply:
    """Where this host gets packages from."""
    return Supply(**read_supply(machine, debian.suite if debian else "", os.environ))


def need(machine: Reader, *programs: str) -> None:
    """Raise NotReady for what is not installed."""
    if missing := [name for name in programs if not machine.which(name)]:
        packages = ["util-linux" if name == "unshare" else name for name in missing]
        raise NotReady(f"{', '.join(missing)}: not installed", hint=f"apt-get install {' '.join(packages)}")
