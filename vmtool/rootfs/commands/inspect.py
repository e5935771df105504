"""`vmtool rootfs inspect` and `verify`: looking at images, and changing nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from vmtool.cli.output import print_json
from vmtool.debian.tools import Tools
from vmtool.errors import Refused, VerificationFailed
from vmtool.host.local import LocalMachine
from vmtool.paths import State
from vmtool.rootfs.add.plan_guestfs import is_foreign
from vmtool.rootfs.commands.shared import IMAGE, find_manifest, tools
from vmtool.rootfs.format.image_file import manifest_path, read_image
from vmtool.rootfs.inspect.contents import check_contents, read_contents
from vmtool.rootfs.inspect.tree import READERS, open_tree
from vmtool.rootfs.inspect.verify import ExpectedImage, verify
from vmtool.rootfs.view import layout_json, layout_lines, print_findings


@click.command()
@IMAGE
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def inspect_command(state: State, image: Path, as_json: bool) -> None:
    """Show what IMAGE is, what is in it, and what Kata would miss."""
    image = image.resolve()
    found = read_image(image)
    if is_foreign(found):
        from vmtool.rootfs.commands.foreign import inspect_foreign

        inspect_foreign(state, found, as_json)
        return
    if found.problem:
        if as_json:
            print_json(image=layout_json(found), problem=found.problem)
            return
        raise Refused(f"{image}: {found.problem}", details=layout_lines(found))
    reader = tools(READERS["ext4" if found.rootfs and found.rootfs.holds == "ext4" else "erofs"])
    tree = open_tree(LocalMachine(), reader, found)
    contents = read_contents(tree)
    findings = list(check_contents(tree, contents))
    if as_json:
        print_json(image=layout_json(found), contents=asdict(contents), findings=[each.as_json() for each in findings])
        return
    click.echo("\n".join(layout_lines(found)))
    click.echo(f"system     {contents.system or 'unknown'}\nkernels    {', '.join(contents.kernels) or 'no modules'}")
    print_findings(findings)


@click.command()
@IMAGE
@click.option("--manifest", "manifest_file", type=click.Path(path_type=Path), help="[IMAGE.manifest.json]")
@click.option("--root-hash", default="", metavar="HASH", help="Expected dm-verity root hash, 64 hexadecimal digits.")
@click.option("--salt", default="", metavar="HEX", help="Of the root hash [the manifest's].")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def verify_command(image: Path, manifest_file: Path | None, root_hash: str, salt: str, as_json: bool) -> None:
    """Hold IMAGE against its manifest or a root hash. Exit code 4 when a claim does not hold."""
    image = image.absolute()
    for name, text in (("--root-hash", root_hash), ("--salt", salt)):
        if text and (len(text) % 2 or not all(digit in "0123456789abcdef" for digit in text)):
            raise Refused(f"{name}: must be lower-case hexadecimal digits")
    expected = ExpectedImage(find_manifest(image, manifest_file), root_hash, salt)
    if not expected.manifest and not root_hash:
        raise Refused(f"{image}: nothing to compare it with: no {manifest_path(image).name} beside it, no --root-hash",
                      hint="vmtool rootfs verify IMAGE --manifest FILE")
    found = read_image(image)
    wanted = "fsck.erofs" if found.rootfs and found.rootfs.holds == "erofs" else "e2fsck"
    findings = list(verify(LocalMachine(), tools(wanted) if not found.problem else Tools(None), found, expected))
    if as_json:
        print_json(image=str(image), findings=[each.as_json() for each in findings])
    else:
        print_findings(findings)
    if failed := [each.title for each in findings if each.level == "fail"]:
        raise VerificationFailed(f"{image}: {', '.join(failed)}: not as promised")
