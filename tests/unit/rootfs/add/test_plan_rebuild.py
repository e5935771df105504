"""Additions that need the whole tree: facts and wishes in, plan lines out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.plans import orders
from tests.fakes.tree import FakeTree
from tests.unit.rootfs import make
from tests.unit.rootfs.add.cases import RELEASE, SUPPLY
from tests.unit.rootfs.make import SALT, manifest
from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.rootfs.add.package_facts import read_debian, read_wanted
from vmtool.rootfs.add.plan_driver import change_driver, driver_of
from vmtool.rootfs.add.plan_package import change_debian, change_rpm
from vmtool.rootfs.add.plan_rebuild import ExistingImage, ImageChange, plan_rebuild
from vmtool.rootfs.add.workers import ext4_to_tar
from vmtool.rootfs.build.replace_files import Replacement, plan_replacements
from vmtool.rootfs.build.workers import merge_layers, write_headers
from vmtool.rootfs.format.image_file import MIB, read_image
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.metadata.workers import update_metadata
from vmtool.rootfs.recipe.models import Debian, Repository, Rpm

TOOLS, SCRATCH = Tools(Path("/t"), "x86_64"), Path("/c/scratch/x")
def old(directory: Path, **changes: Any) -> ExistingImage:
    path = make.kata_dax(directory / "m.img", verity=True)
    present = ("rootfs.img", "manifest.json", "lock.json")
    return dataclasses.replace(ExistingImage(read_image(path), (), manifest(), present, SCRATCH, 100 << 30), **changes)


def text(plan: p.Plan) -> str:
    return "\n".join(p.plan_lines(plan))


def package(*names: str) -> ImageChange:
    return change_debian(SCRATCH, Debian(suite="bookworm"), "amd64", read_wanted(names, ".deb"), SUPPLY)


def test_a_package_is_installed_from_outside_and_everything_is_made_anew(tmp_path: Path) -> None:
    plan = plan_rebuild(Path("/j"), old(tmp_path), package("curl", "jq=1.6-2"), TOOLS)
    lines = text(plan)
    assert [line for line in lines.splitlines() if line.startswith("# ")] == [
        "# 1. read the image", "# 2. install curl, jq=1.6-2", "# 3. make the image again",
        "# 4. put it in the old one's place", "# 5. tidy up"]
    for piece in ("--variant=custom", "--yes --no-remove install curl jq=1.6-2", "rm -rf"):
        assert piece in lines
    whole, kept = orders(plan, ext4_to_tar)
    assert (whole["start"], whole["out"], whole["paths"]) == (3 * MIB, f"{SCRATCH}/old.tar", [])
    assert "etc/hostname" in kept["paths"]
    [merge] = orders(plan, merge_layers)
    assert merge["overlay"]["drop"] == ["/boot", "/var/cache", "/var/log"]
    [headers] = orders(plan, write_headers)
    assert (headers["salt"], headers["geometry"]["size"]) == (SALT, 99 * 4096)
    [metadata] = orders(plan, update_metadata)
    assert metadata["added"] == ["package curl", "package jq=1.6-2"]


def test_an_image_without_manifest_gets_no_papers_and_keeps_what_is_its_own(tmp_path: Path) -> None:
    path = make.image(tmp_path / "f.img", fit("bare", 64 * MIB, verity=False))
    plan = plan_rebuild(Path("/j"), old(tmp_path, image=read_image(path), manifest=None), package("curl"), TOOLS)
    lines = text(plan)
    assert orders(plan, update_metadata) == []
    assert "/boot" not in lines
    assert "manifest.json" not in lines


@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"users": ("qemu (pid 7) has it open",)}, NotReady, "in use"), ({"free": 1 << 10}, NotReady, "are needed"),
    ({"manifest": None}, Refused, "their salt is unknown")])
def test_what_cannot_be_made_anew_is_told_before(tmp_path: Path, changes: dict[str, Any], error: type[Exception],
                                                 message: str) -> None:
    image = old(tmp_path)
    block = dataclasses.replace(image.image, allocated=1 << 20)
    with pytest.raises(error, match=message):
        plan_rebuild(Path("/j"), dataclasses.replace(image, image=block, **changes), package("curl"), TOOLS)


def test_files_and_names_of_packages_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "t.deb").write_text("")
    wanted = read_wanted(("curl", str(tmp_path / "t.deb")), ".deb")
    assert wanted.reported == ("package curl", "package t.deb")
    lines = text(plan_rebuild(Path("/j"), old(tmp_path), change_debian(
        SCRATCH, Debian(suite="bookworm"), "amd64", wanted, SUPPLY), TOOLS))
    assert f"upload {tmp_path}/t.deb /vmtool-0.deb" in lines
    assert "install curl " in lines


@pytest.mark.parametrize("word", ["./absent.deb", "-y", "a b", "$(id)", "x;y"])
def test_what_is_no_package_is_refused(word: str) -> None:
    with pytest.raises(Refused, match=r"neither a package's name nor a \.deb file"):
        read_wanted((word,), ".deb")


@pytest.mark.parametrize("name", ["linux-image-amd64", "kernel"])
def test_a_second_kernel_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="one kernel"):
        read_wanted((name,), ".deb")


def test_the_release_is_the_images_own() -> None:
    found = read_debian(FakeTree({}, {"/etc/os-release": RELEASE}), ("main", "contrib"))
    assert (found.suite, found.components) == ("bookworm", ("main", "contrib"))
    with pytest.raises(Refused, match="openEuler") as refused:
        read_debian(FakeTree({}, {"/etc/os-release": 'ID="openEuler"\nPRETTY_NAME="openEuler 24.03"\n'}), ("main",))
    assert "--recipe" in refused.value.hint


def test_an_rpm_image_gets_its_packages_from_the_recipes_repositories(tmp_path: Path) -> None:
    rpm = Rpm(release="24.03", repositories=(Repository(name="l", source="file:/r", unsigned=True),))
    change = change_rpm(SCRATCH, rpm, "arm64", read_wanted(("vim",), ".rpm"), SUPPLY)
    lines = text(plan_rebuild(Path("/j"), old(tmp_path), change, TOOLS))
    assert f"--installroot={SCRATCH}/tree" in lines
    assert "--forcearch=aarch64" in lines
    assert "install vim" in lines


def test_a_driver_is_made_for_the_images_kernel(tmp_path: Path) -> None:
    tree = FakeTree({}, {"/usr/lib/modules/6.1.0-9-cloud-amd64/modules.dep": ""})
    driver = driver_of({"packages": ("nvidia-open-kernel-dkms",), "branch": "535", "run": None})
    change = change_driver(SCRATCH, tree, "amd64", Debian(suite="bookworm"), driver, SUPPLY, TOOLS)
    lines = text(plan_rebuild(Path("/j"), old(tmp_path), change, TOOLS))
    assert "--include=make,linux-headers-6.1.0-9-cloud-amd64" in lines
    assert f'"archives": ["{SCRATCH}/old.tar", "{SCRATCH}/driver/out/driver.tar"]' in lines
    assert '"driver nvidia-open-kernel-dkms"' in lines
    with pytest.raises(Refused, match="0 kernels"):
        change_driver(SCRATCH, FakeTree({}), "amd64", Debian(suite="bookworm"), driver, SUPPLY, TOOLS)


def test_ways_to_a_driver_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(Refused, match="exactly one of packages, run and modules"):
        driver_of({"packages": (), "run": None, "modules": None})
    with pytest.raises(Refused, match="source goes with run"):
        driver_of({"packages": ("nvidia",), "source": Path("/s")})


def test_an_exchange_links_what_is_there_and_takes_back_what_was_not() -> None:
    swaps = (Replacement(Path("/o/.a.new"), Path("/o/a"), existing=False),
             Replacement(Path("/o/.b.new"), Path("/o/b"), existing=True))
    step = plan_replacements("exchange", Path("/o/b"), swaps)
    lines = [action.shell() for action in step.actions]
    assert "ln /o/b /o/.b.vmtool-old/1" in lines
    assert lines[-3:] == ["mv --no-target-directory /o/.b.vmtool-old /o/.b.vmtool-gone",
                          "rm -rf --one-file-system /o/.b.vmtool-gone",
                          "rm -rf --one-file-system /o/.b.vmtool-undo"]
    assert plans.lines(step.undo)[:2] == [
        "mv --force --no-target-directory /o/a /o/.b.vmtool-old/new-0",
        "mv --force --no-target-directory /o/.b.vmtool-old/1 /o/b"]
