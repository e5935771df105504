"""`vmtool rootfs`: build, grow, equip, inspect, verify and boot guest images."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from vmtool.cli.output import print_json
from vmtool.cli.rootfsadd import add_command
from vmtool.cli.rootfsview import layout_json, layout_lines, print_findings
from vmtool.cli.rootfswork import IMAGE, bring_back, do, find_manifest, tools, work_dir
from vmtool.errors import Refused, VerificationFailed
from vmtool.facts.imagefile import read_image
from vmtool.facts.imageusers import read_users
from vmtool.facts.memory import read_disk
from vmtool.host import lock
from vmtool.host.look import Machine
from vmtool.image.cache import Cache
from vmtool.plan import Plan
from vmtool.rootfs.build import plan_build
from vmtool.rootfs.buildfacts import read_build
from vmtool.rootfs.contents import check_contents, read_contents
from vmtool.rootfs.driver import plan_driver
from vmtool.rootfs.foreign import is_foreign
from vmtool.rootfs.lockfile import read_lock
from vmtool.rootfs.manifest import manifest_path, read_manifest
from vmtool.rootfs.recipefile import find_rootfs_recipe, read_rootfs_recipe
from vmtool.rootfs.resize import ResizeFacts, check_growable, parse_growth, plan_resize
from vmtool.rootfs.store import Store
from vmtool.rootfs.tools import Tools, plan_tools, tools_dir
from vmtool.rootfs.tree import open_tree
from vmtool.rootfs.verify import Claims, verify
from vmtool.state import State


@click.group()
def rootfs_command() -> None:
    """Build, grow, equip, inspect, verify and boot guest images."""


@rootfs_command.command("build")
@click.argument("recipe")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where the image goes [NAME.img].")
@click.option("--arch", type=click.Choice(["amd64", "arm64"]), help="In the place of the recipe's.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--no-cache", is_flag=True, help="Make everything anew, also with the same input.")
@click.option("--lock", "lock_file", type=click.Path(path_type=Path),
              help="Lock file of an earlier build: fail when a package or the driver differs from it.")
@click.pass_obj
def build(state: State, recipe: str, output: Path | None, arch: str | None, dry_run: bool, no_cache: bool,
          lock_file: Path | None) -> None:
    """Build RECIPE: a folder of images/, a directory or a file. Unchanged input builds nothing."""
    read = read_rootfs_recipe(find_rootfs_recipe(recipe), arch=arch or "")
    out = (output or Path(f"{read.name}.img")).absolute()
    if not out.parent.is_dir():
        raise Refused(f"{out.parent}: no such directory")
    if lock_file:
        lock_file = lock_file.absolute()
        read_lock(lock_file)
    store, machine = Store(Cache.at()), Machine()
    directory = state.root / "rootfs" / f"build-{read.name}"

    def make() -> Plan:
        facts = read_build(machine, store, read, out, os.environ)
        step = plan_tools(machine, store.cache, facts.options, facts.environment)
        own = Tools(tools_dir(store.cache), os.uname().machine)
        return plan_build(directory, store, read, facts, step, own, out, fresh=no_cache, lock=lock_file,
                          driver_step=plan_driver(store, read, facts, own))

    doing = f"vmtool rootfs build {read.name}"
    if dry_run:
        do(state, directory, doing, make, True)
        return
    with lock.Lock(store.lock, doing):
        do(state, directory, doing, make, False)
    told = read_manifest(manifest_path(out))
    click.echo(f"{out}\nsha256     {told.sha256}")
    if told.verity:
        click.echo(f"root hash  {told.verity.root_hash}")
    click.echo(f"next: vmtool rootfs verify {out.name}   vmtool rootfs boot {out.name}")


@rootfs_command.command("resize")
@IMAGE
@click.argument("size", metavar="(+20G|40G)")
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--copy", is_flag=True, help="Repair and grow a copy, also when the image can grow in its place.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def resize_(state: State, image: Path, size: str, manifest_file: Path | None, copy: bool, dry_run: bool) -> None:
    """Grow IMAGE by or to a size, file system, partition, hashes and manifest included."""
    image = image.resolve()
    directory, beside = work_dir(state, image), manifest_path(image)
    if not dry_run:
        bring_back(state, image)
    wanted = parse_growth(size, read_image(image).size)

    def make() -> Plan:
        found = read_image(image)
        check_growable(found)
        machine = Machine()
        facts = ResizeFacts(found, read_users(machine, str(image), own=os.getpid()),
                            read_disk(machine, str(image.parent)).free, find_manifest(image, manifest_file),
                            manifest_file.absolute() if manifest_file else beside, beside.exists())
        return plan_resize(directory, facts, wanted, tools("debugfs", "e2fsck", "resize2fs"), copy=copy)

    if do(state, directory, f"vmtool rootfs resize {image.name}", make, dry_run):
        click.echo(f"{image} has {read_image(image).size} bytes now; next: vmtool rootfs verify {image}")


@rootfs_command.command("inspect")
@IMAGE
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def inspect_(state: State, image: Path, as_json: bool) -> None:
    """Show what IMAGE is, what is in it, and what Kata would miss."""
    image = image.resolve()
    found = read_image(image)
    if is_foreign(found):
        from vmtool.cli.rootfsforeign import inspect_foreign

        inspect_foreign(state, found, as_json)
        return
    if found.problem:
        if as_json:
            print_json(image=layout_json(found), problem=found.problem)
            return
        raise Refused(f"{image}: {found.problem}", details=layout_lines(found))
    tree = open_tree(Machine(), tools("debugfs" if found.rootfs and found.rootfs.holds == "ext4" else "dump.erofs"),
                     found)
    contents = read_contents(tree)
    findings = list(check_contents(tree, contents))
    if as_json:
        print_json(image=layout_json(found), contents=asdict(contents), findings=[asdict(each) for each in findings])
        return
    click.echo("\n".join(layout_lines(found)))
    click.echo(f"system     {contents.system or 'unknown'}\nkernels    {', '.join(contents.kernels) or 'no modules'}")
    print_findings(findings)


@rootfs_command.command("verify")
@IMAGE
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--root-hash", default="", metavar="HASH", help="Expected dm-verity root hash, 64 hexadecimal digits.")
@click.option("--salt", default="", metavar="HEX", help="Of the root hash [the manifest's].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify_(image: Path, manifest_file: Path | None, root_hash: str, salt: str, as_json: bool) -> None:
    """Hold IMAGE against its manifest or a root hash. Exit code 4 when a claim does not hold."""
    image = image.absolute()
    for name, text in (("--root-hash", root_hash), ("--salt", salt)):
        if text and (len(text) % 2 or not all(digit in "0123456789abcdef" for digit in text)):
            raise Refused(f"{name}: must be lower-case hexadecimal digits")
    claims = Claims(find_manifest(image, manifest_file), root_hash, salt)
    if not claims.manifest and not root_hash:
        raise Refused(f"{image}: nothing to hold it against: no {manifest_path(image).name} beside it, no --root-hash",
                      hint="vmtool rootfs verify IMAGE --manifest FILE")
    found = read_image(image)
    wanted = "fsck.erofs" if found.rootfs and found.rootfs.holds == "erofs" else "e2fsck"
    findings = list(verify(Machine(), tools(wanted) if not found.problem else Tools(None), found, claims))
    if as_json:
        print_json(image=str(image), findings=[asdict(each) for each in findings])
    else:
        print_findings(findings)
    if failed := [each.title for each in findings if each.level == "fail"]:
        raise VerificationFailed(f"{image}: {', '.join(failed)}: not as promised")


@rootfs_command.command("boot")
@IMAGE
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--kernel", type=click.Path(path_type=Path), help="[IMAGE.vmlinuz]")
@click.option("--timeout", type=float, default=300.0, show_default=True, metavar="S", help="Seconds for the guest.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def boot(state: State, image: Path, manifest_file: Path | None, kernel: Path | None, timeout: float, as_json: bool,
         dry_run: bool) -> None:
    """Boot IMAGE under QEMU, without changing it. Exit code 4 when something promised is missing."""
    from vmtool.cli.rootfsboot import boot_image

    image = image.resolve()
    boot_image(state, image, find_manifest(image, manifest_file), kernel, timeout, as_json, dry_run)


rootfs_command.add_command(add_command)
