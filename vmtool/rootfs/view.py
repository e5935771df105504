"""How `vmtool rootfs` shows images and findings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import click

from vmtool.findings import Finding
from vmtool.rootfs.format.image_file import ImageFile

MARKS = {"ok": "✓", "note": "-", "warn": "!", "fail": "✗", "not-checked": "?"}


def layout_lines(image: ImageFile) -> list[str]:
    """What the file is, a line each."""
    lines = [f"image      {image.path}", f"layout     {image.kind}",
             f"size       {image.size} bytes, {image.allocated} on disk"]
    for number, each in enumerate(image.partitions, 1):
        what = each.holds or ("dm-verity hashes, perhaps" if each == image.hashes else "unknown")
        lines.append(f"partition  {number}: {what}, {each.size} bytes at {each.start}")
    if image.superblock:
        block = image.superblock
        state = "clean" if block.clean else "NOT clean"
        lines.append(f"rootfs     ext4, {block.size} bytes, {block.free} free, {state}")
    return lines


def layout_json(image: ImageFile) -> dict[str, object]:
    """Its fields; the key `torn` has the name that scripts have read since 0.1."""
    known = asdict(image)
    return known | {"torn": known.pop("grow_interrupted"), "path": str(image.path)}


def print_findings(findings: Iterable[Finding]) -> None:
    """A line for each, and its hint below."""
    for each in findings:
        click.echo(f"{MARKS[each.level]} {each.title}: {each.detail}")
        if each.hint:
            click.echo(f"  {each.hint}")
