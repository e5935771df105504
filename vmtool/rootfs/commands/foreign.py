"""`vmtool rootfs inspect` and `add file|hook` of images that take a guest to read."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import click

from vmtool.architecture import architecture_of
from vmtool.cache import Cache
from vmtool.cli.apply_plan import show_or_apply
from vmtool.cli.output import print_json
from vmtool.debian.tools import Tools, plan_tools, read_unpacked, tools_dir
from vmtool.errors import NotReady
from vmtool.findings import Finding
from vmtool.foreign import parse_json
from vmtool.host.local import LocalMachine
from vmtool.machine import Reader
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.rootfs.add.guestfs_facts import Appliance, has_kernel
from vmtool.rootfs.add.plan_file import Addition
from vmtool.rootfs.add.plan_guestfs import check, plan_insert, plan_look
from vmtool.rootfs.build.facts import read_supply
from vmtool.rootfs.commands.boot import kvm_runs
from vmtool.rootfs.commands.shared import work_dir
from vmtool.rootfs.format.image_file import ImageFile, read_image
from vmtool.rootfs.format.image_users import lasting_users
from vmtool.rootfs.view import layout_json, layout_lines, print_findings


def inspect_foreign(state: State, image: ImageFile, as_json: bool) -> None:
    """Look into the image in a guest, and show what is in it."""
    machine, directory = LocalMachine(), work_dir(state, image.path)

    def make() -> Plan:
        appliance, tools, before = read_appliance(machine, image)
        return plan_look(directory, image, appliance, tools, before)

    show_or_apply(state, directory, f"vmtool rootfs inspect {image.path.name}", make, False)
    found: dict[str, Any] = parse_json((directory / "foreign.json").read_text())
    findings = [Finding(**each) for each in found["findings"]]
    if as_json:
        print_json(image={**layout_json(image), **{name: found[name] for name in (
            "virtual_size", "table", "root", "filesystems")}}, contents=found["contents"], findings=found["findings"])
        return
    contents = found["contents"]
    click.echo("\n".join(layout_lines(image)))
    click.echo(f"disk       {found['virtual_size']} bytes, {found['table'] or 'no'} partition table")
    for each in found["filesystems"]:
        size = f", {each['size']} bytes" if each["size"] >= 0 else ""
        click.echo(f"contains   {each['device']}: {each['holds']}{size}" + (
            ", the root" if each["device"] == found["root"] else ""))
    click.echo(f"system     {contents['system'] or 'unknown'}\n"
               f"kernels    {', '.join(contents['kernels']) or 'no modules'}")
    print_findings(findings)


def put_foreign(state: State, image: Path, addition: Addition, dry_run: bool) -> bool:
    """Put a file into the image in a guest. Whether something was changed."""
    machine, directory = LocalMachine(), work_dir(state, image)

    def make() -> Plan:
        found = read_image(image)
        appliance, tools, before = read_appliance(machine, found)
        users = lasting_users(machine, str(image), own=os.getpid())
        return plan_insert(directory, found, users, addition, appliance, tools, before)

    return show_or_apply(state, directory, f"vmtool rootfs add {image.name}", make, dry_run)


def read_appliance(machine: Reader, image: ImageFile) -> tuple[Appliance, Tools, tuple[Step, ...]]:
    """What libguestfs's guest is made of here, and the steps that bring what is missing.

    Raises:
        NotReady: it cannot be brought.
    """
    cache, host = Cache.at(), os.uname()
    kernel = (architecture_of(host.machine).guest_kernel,)
    own = has_kernel(machine, host.release)
    programs = ("supermin", "qemu-img", f"qemu-system-{host.machine}")
    appliance = Appliance(importlib.util.find_spec("guestfs") is not None,
                          tuple(name for name in programs if not machine.which(name)),
                          None if own else tools_dir(cache, kernel), kvm_runs(machine),
                          cache.root / "rootfs" / "guestfs", os.geteuid() == 0)
    check(image, appliance)
    if own:
        return appliance, Tools(None), ()
    settings = read_supply(machine, "", os.environ)
    steps = (plan_tools(read_unpacked(machine, cache), cache, settings["options"], settings["environment"]),
             plan_tools(read_unpacked(machine, cache, kernel), cache, settings["options"], settings["environment"],
                        what="a kernel for libguestfs"))
    if not all(step.skip for step in steps) and not machine.which("mmdebstrap"):
        raise NotReady("libguestfs needs a kernel to boot: there is none in /boot, and no mmdebstrap to unpack one",
                       hint=f"apt-get install {kernel[0]}, or mmdebstrap")
    return appliance, Tools(tools_dir(cache), host.machine), tuple(step for step in steps if not step.skip)
