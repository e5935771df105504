"""Guest images: built, grown, added to, looked into, booted."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.machine import FakeMachine
from tests.fakes.machine.tree import Inode
from tests.fakes.tree import FakeTree
from tests.unit.rootfs import make, recipes
from tests.unit.rootfs.add.cases import APPLIANCE, RELEASE, SUPPLY
from tests.unit.rootfs.boot import cases as booting
from tests.unit.rootfs.make import MANIFEST, manifest
from tests.unit.sweeps.engine import Boot, Case, Make
from vmtool.cache import Cache
from vmtool.debian.tools import Tools, plan_tools, read_unpacked, tools_dir
from vmtool.paths import State
from vmtool.plan import Plan, Step
from vmtool.rootfs.add.package_facts import read_debian, read_wanted
from vmtool.rootfs.add.plan_driver import change_driver, driver_of
from vmtool.rootfs.add.plan_file import Addition, plan_add
from vmtool.rootfs.add.plan_guestfs import plan_insert, plan_look
from vmtool.rootfs.add.plan_package import change_debian, change_rpm
from vmtool.rootfs.add.plan_rebuild import ExistingImage, ImageChange, plan_rebuild
from vmtool.rootfs.boot.plan import plan_boot
from vmtool.rootfs.build.plan import plan_build
from vmtool.rootfs.build.plan_driver import plan_driver
from vmtool.rootfs.build.store import FILES, Store
from vmtool.rootfs.format.image_file import MIB, ImageFile, manifest_path, read_image, undo_file_path
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.grow.plan import ResizeFacts, plan_resize
from vmtool.rootfs.grow.plan_in_place import plan_back
from vmtool.rootfs.recipe.models import Repository, Rpm

CACHE = Cache(Path("/var/cache/vmtool"))
STORE, GIB = Store(CACHE), 1 << 30
IMAGE = Path("/i/m.img")
SCRATCH = STORE.scratch("m")
CACHED = {r"files /var/cache/vmtool/rootfs/(bases|drivers|images|tools|dnf|guestfs)/.*": "the cache, for the next time"}
WORK = {r"files .*/rootfs/work/.*": "beside the journal: orders and logs of the work, for a person to read"}
HOOK = Addition("/usr/share/oci/hooks/prestart/n.sh", 0o755, text="#!/bin/sh\n", hook=True)


def host(*beside: str) -> Boot:
    """A machine with an image, and what is next to it."""
    def boot(state: State) -> FakeMachine:
        files = {f"{IMAGE}{FILES[name]}": name for name in ("rootfs.img", *beside)}
        return FakeMachine(files={**files, "/k": "kernel", "/bb/busybox": "busybox", "/q": None, "/t": None,
                                  "/lib/modules/6.1.0/modules.dep": ""})

    return boot


@functools.cache
def image(kind: str = "kata-dax", *, verity: bool = False, shared: bool = False) -> ImageFile:
    """What is read of a crafted image, in the place of the machine's."""
    with tempfile.TemporaryDirectory() as directory:
        size = GIB if kind == "bare" else 256 * MIB
        found = read_image(make.image(Path(directory) / "m.img", fit(kind, size, verity=verity)))  # type: ignore[arg-type]
    return dataclasses.replace(found, path=IMAGE, shared=shared, allocated=1 << 20)


def work(state: State) -> Path:
    """Where the journal lies."""
    return state.root / "rootfs" / "work"


def tools(machine: FakeMachine) -> tuple[Step, Tools]:
    """The step that unpacks the tools, and these."""
    return plan_tools(read_unpacked(machine, CACHE), CACHE, (), ()), Tools(tools_dir(CACHE))


def build(changes: dict[str, Any] | None = None, *present: str, out: Path = IMAGE, **found: Any) -> Make:
    """From a recipe, over the files of an earlier build."""
    def plan(state: State, machine: FakeMachine) -> Plan:
        read = recipes.recipe(state.root.parent, **changes or {})
        host, (step, own) = recipes.facts(present=present, **found), tools(machine)
        return plan_build(work(state), STORE, read, host, step, own, out,
                          driver_step=plan_driver(STORE, read, host, own))

    return plan


def resize(found: ImageFile, *, papers: bool = True, copy: bool = False) -> Make:
    def plan(state: State, machine: FakeMachine) -> Plan:
        facts = ResizeFacts(found, (), 100 * GIB, MANIFEST if papers else None, beside=papers)
        return plan_resize(work(state), facts, 2 * GIB, Tools(None), copy=copy)

    return plan


def add(addition: Addition, *, verity: bool) -> Make:
    def plan(state: State, machine: FakeMachine) -> Plan:
        return plan_add(work(state), image(verity=verity), (), MANIFEST if verity else None, addition, Tools(None))

    return plan


def rebuild(change: Callable[[Tools], ImageChange]) -> Make:
    """An addition that needs the whole tree."""
    def plan(state: State, machine: FakeMachine) -> Plan:
        step, own = tools(machine)
        present = ("rootfs.img", "manifest.json", "lock.json")
        old = ExistingImage(image(verity=True), (), manifest(), present, SCRATCH, None)
        return plan_rebuild(work(state), old, change(own), own, before=(step,))

    return plan


def debian(own: Tools) -> ImageChange:
    release = read_debian(FakeTree({}, {"/etc/os-release": RELEASE}), ("main",))
    return change_debian(SCRATCH, release, "amd64", read_wanted(("curl",), ".deb"), SUPPLY)


def rpm(own: Tools) -> ImageChange:
    repository = Repository(name="l", source="file:/r", unsigned=True)
    return change_rpm(SCRATCH, Rpm(release="24.03", repositories=(repository,)), "amd64", read_wanted(("vim",), ".rpm"),
                      SUPPLY)


def driver(own: Tools) -> ImageChange:
    tree = FakeTree({}, {"/usr/lib/modules/6.1.0-9-amd64/modules.dep": ""})
    ways = {"packages": ("nvidia-open-kernel-dkms",), "branch": "535"}
    release = read_debian(FakeTree({}, {"/etc/os-release": RELEASE}), ("main",))
    return change_driver(SCRATCH, tree, "amd64", release, driver_of(ways), SUPPLY, own)


def in_guest(verb: str) -> Make:
    """Through libguestfs's small guest."""
    def plan(state: State, machine: FakeMachine) -> Plan:
        appliance = dataclasses.replace(APPLIANCE, cache=CACHE.root / "rootfs" / "guestfs")
        found = dataclasses.replace(image(), kind="gpt")
        if verb == "look":
            return plan_look(work(state), found, appliance, Tools(None), (tools(machine)[0],))
        return plan_insert(work(state), found, (), HOOK, appliance, Tools(None), ())

    return plan


def boot(state: State, machine: FakeMachine) -> Plan:
    made = dataclasses.replace(BOOT, directory=work(state))
    return plan_boot(made, Tools(None), (tools(machine)[0],), 60.0)


def interrupted(state: State) -> FakeMachine:
    """An image whose growth was killed half-way, with another state directory."""
    machine = host("manifest.json")(state)
    tree = machine.tree
    kept = '{"data": "rootfs.img", "size": null, "manifest": "manifest.json"}'
    tree.write(str(undo_file_path(IMAGE)), kept.encode(), 0o600)
    tree.put(str(IMAGE), Inode("file", data=b"half grown", size=2 * GIB))
    tree.overwrite(str(manifest_path(IMAGE)), b"half", 0o644)
    return machine


def bring_back(state: State, machine: FakeMachine) -> Plan:
    """As `vmtool.rootfs.commands.shared.bring_back` makes it."""
    back = plan_back(IMAGE)
    return Plan("undo of m.img", work(state), (Step("bring the image back", back, undo=back, waits_only=True),))


def changed(boot: Boot, make: Make) -> Case:
    """The files take their places together, and then stay."""
    return Case(boot, make, LEFT, all_or_nothing=True)


BOOT = dataclasses.replace(booting.boot(Path(__file__)), image=image())
RPM = {"debian": None, "rpm": {"release": "24.03", "repositories": [{"name": "l", "source": "file:/r",
                                                                     "unsigned": True}]}}
KERNEL = {"kernel": {"package": "linux-image-amd64"}, "driver": {"packages": ["nvidia-open-kernel-dkms"]}}
BESIDE = ("manifest.json", "lock.json", "vmlinuz")
LEFT = CACHED | WORK
CASES = {
    "rootfs build": changed(host(*BESIDE), build({"verity": {}}, "rootfs.img", *BESIDE)),
    "rootfs build, for the first time": changed(host(), build(out=Path("/i/new.img"))),
    "rootfs build, with a driver": changed(host(*BESIDE), build(KERNEL, "rootfs.img", *BESIDE)),
    "rootfs build, of RPMs, erofs": changed(host(), build({**RPM, "filesystem": "erofs"}, "rootfs.img")),
    "rootfs build, an initrd": changed(host(), build({"layout": "initrd"}, "rootfs.img")),
    "rootfs build, by an emulator": changed(host(), build({"arch": "arm64"}, "rootfs.img", emulator="/e")),
    "rootfs resize, in place": changed(host("manifest.json"), resize(image(verity=True))),
    "rootfs resize, a copy": changed(host("manifest.json"), resize(image(verity=True), copy=True)),
    "rootfs resize, a bare file system": changed(host(), resize(image("bare"), papers=False, copy=True)),
    "rootfs add file": changed(host(), add(Addition("/etc/x", 0o644, source=Path("/k")), verity=False)),
    "rootfs add hook": changed(host("manifest.json"), add(HOOK, verity=True)),
    "rootfs add package": changed(host("manifest.json", "lock.json"), rebuild(debian)),
    "rootfs add package, an RPM": changed(host("manifest.json", "lock.json"), rebuild(rpm)),
    "rootfs add driver": changed(host("manifest.json", "lock.json"), rebuild(driver)),
    "rootfs add hook, in a guest": changed(host(), in_guest("insert")),
    "rootfs inspect, in a guest": Case(host(), in_guest("look"), LEFT),
    "rootfs boot": Case(host(), boot, LEFT),
    "rootfs, bring back": changed(interrupted, bring_back),
}
