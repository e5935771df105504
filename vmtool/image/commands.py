"""`vmtool image`: build, import, list and remove container images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from vmtool.cache import Cache
from vmtool.cli.apply_plan import apply_plan, remove
from vmtool.cli.output import Progress, print_json, print_table
from vmtool.containerd.endpoint import Endpoint, choose_endpoint
from vmtool.containerd.facts import imports_by_daemon, read_containerd
from vmtool.errors import Refused, VmtoolError
from vmtool.host import locks
from vmtool.host.local import LocalMachine
from vmtool.image.actions import DamagedCache
from vmtool.image.archive import read_archive
from vmtool.image.check import check_names, check_upstream
from vmtool.image.facts import read_build
from vmtool.image.installed import (
    ImportedImage,
    images_dir,
    is_present,
    read_images,
    read_record,
    read_records,
    recorded_digests,
)
from vmtool.image.plan_build import plan_build
from vmtool.image.plan_import import built_record, digests_of, foreign_record, plan_import
from vmtool.image.recipe import Recipe, find_recipe, input_digest, read_recipe
from vmtool.image.reference import full_reference
from vmtool.instance.instance import Instance
from vmtool.instance.read import read_instances
from vmtool.paths import State
from vmtool.plan import Plan, plan_lines


@click.group()
def image_command() -> None:
    """Build, import, list and remove container images."""


@image_command.command("build")
@click.argument("recipe")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--no-cache", is_flag=True, help="Make everything again, also with the same input.")
@click.option("--upstream-digest", default="", metavar="sha256:...", help="Of a recipe's upstream image.")
@click.pass_obj
def build(state: State, recipe: str, dry_run: bool, no_cache: bool, upstream_digest: str) -> None:
    """Build RECIPE, a folder of images/ or a path, and hand it to containerd. Unchanged input builds nothing."""
    read = read_recipe(find_recipe(recipe))
    check_upstream(read, upstream_digest)
    digest, endpoint = input_digest(read, upstream_digest), this_endpoint(state)
    wanted = built_record(read.name, read.reference, digest, endpoint)
    reader = LocalMachine()
    check_names(wanted, {}, read_records(reader, state), {})
    earlier = read_record(reader, images_dir(state) / read.name)
    if earlier == wanted and not no_cache and is_present(reader, state, earlier):
        made = recorded_digests(reader, state, read.name)[wanted.references[-1]]
        click.echo(f"nothing to do: {wanted.references[-1]} is there, built from this very input: {made}", err=True)
        return
    plans = _Build(state, read, digest, wanted, upstream_digest, no_cache)
    if dry_run:
        click.echo("\n".join(line for plan in (plans.build(), plans.load()) for line in plan_lines(plan)))
        return
    doing = f"vmtool image build {read.name}"
    with locks.Lock(plans.cache.lock, doing):
        built = plans.built(doing)
        if not built.changes:
            Progress().skipped(built.steps[0].title, built.steps[0].skip)
        apply_plan(state, images_dir(state) / read.name, doing, plans.load)
    made = recorded_digests(reader, state, read.name)[wanted.references[-1]]
    click.echo(f"{wanted.references[-1]} is there, also as {wanted.references[0]}: {made}")
    click.echo("next: vmtool model canary DIR   vmtool run images/quickstart.yaml")


class _Build:
    """The two halves of a build; the second is planned when the first is done."""

    def __init__(self, state: State, recipe: Recipe, digest: str, wanted: ImportedImage, upstream: str,
                 fresh: bool) -> None:
        self.state, self.recipe, self.digest, self.wanted = state, recipe, digest, wanted
        self.upstream, self.fresh, self.cache = upstream, fresh, Cache.at()

    def built(self, doing: str) -> Plan:
        """Build; once more from nothing, when what earlier builds left turns out to be damaged."""
        directory = self.state.root / "builds" / self.recipe.name
        try:
            return apply_plan(self.state, directory, doing, self.build)
        except DamagedCache as error:
            lines = (*error.details, f"{error.message}: it is removed, and the image built again")
            click.echo("\n".join(lines), err=True)
            return apply_plan(self.state, directory, doing, lambda: self.build(drop=True))

    def build(self, *, drop: bool = False) -> Plan:
        facts = read_build(LocalMachine(), self.cache, self.recipe, self.digest, os.environ)
        return plan_build(self.cache, self.state.root / "builds" / self.recipe.name, self.recipe, self.digest, facts,
                          upstream_digest=self.upstream, fresh=self.fresh, drop=drop)

    def load(self) -> Plan:
        archive, names = self.cache.archive(self.recipe.name, self.digest), self.wanted.references
        # It is there when it is built; a dry run may come before that.
        made = read_archive(archive).digests.get(names[0], "") if archive.exists() else ""
        return plan_import(self.state, self.wanted.endpoint, archive, self.wanted,
                           read_record(LocalMachine(), images_dir(self.state) / self.recipe.name),
                           digests=dict.fromkeys(names, made), tag=(names[0], names[1]),
                           local=imports_by_daemon(LocalMachine()))


@image_command.command("import")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--name", default="", metavar="REGISTRY/NAME", help="For an archive that holds a tag only.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.pass_obj
def import_(state: State, archive: Path, name: str, dry_run: bool) -> None:
    """Import an image ARCHIVE: an OCI layout or the output of `docker save`."""
    archive, reader = archive.absolute(), LocalMachine()
    contents = read_archive(archive)
    record, base_name = foreign_record(contents, archive, this_endpoint(state), name)
    directory, digests = images_dir(state) / record.name, digests_of(contents, record)

    def make() -> Plan:
        check_names(record, digests, read_records(reader, state), recorded_digests(reader, state, record.name), archive)
        return plan_import(state, record.endpoint, archive, record, read_record(reader, directory), digests=digests,
                           base_name=base_name, local=imports_by_daemon(reader))

    if dry_run:
        click.echo("\n".join(plan_lines(make())))
        return
    apply_plan(state, directory, f"vmtool image import {archive}", make)
    for reference, digest in recorded_digests(reader, state, record.name).items():
        click.echo(f"{reference}: {digest}")


@image_command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def list_(state: State, as_json: bool) -> None:
    """List the images that instances can use."""
    images = read_images(LocalMachine(), state, this_endpoint(state))
    if as_json:
        print_json(images=[vars(image) for image in images])
    elif images:
        print_table(("IMAGE", "DIGEST", "SIZE", "PRESENT"),
                    [(image.reference, image.digest[:19], image.size, "yes" if image.present else "NO")
                     for image in images])
    else:
        click.echo("no images; make one with: vmtool image build vllm-cpu", err=True)


@image_command.command("rm")
@click.argument("image")
@click.pass_obj
def rm(state: State, image: str) -> None:
    """Remove IMAGE from containerd. The build cache stays, so that building it again is quick."""
    record = find_record(state, image)
    check_unused(image, record, read_instances(state))
    remove(state, images_dir(state) / record.name, f"vmtool image rm {image}")
    click.echo(f"removed {', '.join(record.references)}; the build cache stays in {Cache.at().root}", err=True)


def check_unused(image: str, record: ImportedImage, instances: Sequence[Instance]) -> None:
    """Refuse to take an image away from what runs with it, or may.

    Raises:
        Refused: an instance uses it, or is too damaged to tell.
    """
    users = [one for one in instances if (one.pid or one.state == "starting")
             and (one.record is None or one.record.image in record.references)]
    unknown = [one for one in instances if one.damage and one.record is None]
    if users:
        raise Refused(f"{image} is used by {', '.join(one.name for one in users)}", hint=f"vmtool rm {users[0].name}")
    if unknown:
        raise Refused(f"{image} may be used by {', '.join(one.name for one in unknown)}, which is damaged",
                      details=[one.damage.message for one in unknown if one.damage],
                      hint=f"vmtool recover --adopt {unknown[0].name}")


def find_record(state: State, image: str) -> ImportedImage:
    """The record that a person means by a reference or by its short name.

    Raises:
        VmtoolError: vmtool did not import such an image.
    """
    for record in read_records(LocalMachine(), state):
        if image == record.name or full_reference(image) in record.references:
            return record
    raise VmtoolError(f"vmtool knows no image {image!r}", hint="vmtool image list")


def this_endpoint(state: State) -> Endpoint:
    """The containerd that images go to: the same that instances use."""
    return choose_endpoint(state, bool(read_containerd(LocalMachine()).answers))
