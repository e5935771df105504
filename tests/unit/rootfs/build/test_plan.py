"""Build plans as tables: facts and recipe in, lines out."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.plans import orders
from tests.fakes.proc import Proc
from tests.unit.rootfs.recipes import STORE, facts, recipe
from vmtool import plan as p
from vmtool.cache import Cache
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.facts.superseded import KEPT
from vmtool.rootfs.build.facts import superseded_parts
from vmtool.rootfs.build.plan import plan_build
from vmtool.rootfs.build.plan_driver import plan_driver
from vmtool.rootfs.build.store import Store
from vmtool.rootfs.build.workers import cpio, nvidia_modules, write_headers
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.metadata.workers.write_metadata import check_driver, check_toolkit
from vmtool.rootfs.recipe.input_facts import read_inputs

TOOLS = Tools(Path("/t"), "x86_64")
STEP = p.Step("tools", skip="they are in the cache", waits_only=True)
KERNEL = {"package": "linux-image-amd64"}


def planned(tmp_path: Path, changes: dict[str, Any] | None = None, *, fresh: bool = False, lock: Path | None = None,
            **found: Any) -> p.Plan:
    read = recipe(tmp_path, **changes or {})
    host = facts(inputs=read_inputs(read), **found)
    return plan_build(Path("/j"), STORE, read, host, STEP, TOOLS, Path("/o/x.img"), fresh=fresh, lock=lock,
                      driver_step=plan_driver(STORE, read, host, TOOLS))


def text(plan: p.Plan) -> str:
    return "\n".join(p.plan_lines(plan))


def test_a_first_build_makes_everything(tmp_path: Path) -> None:
    lines = text(planned(tmp_path))
    assert [line for line in lines.splitlines() if line.startswith("# ")] == [
        "# 1. tools (nothing to do: they are in the cache)", "# 2. install the packages (bookworm, amd64)",
        "# 3. make the image (kata-dax, ext4)", "# 4. write x.img"]
    assert "unshare --mount --pid --fork --kill-child --mount-proc mmdebstrap" in lines
    assert "SOURCE_DATE_EPOCH=1750000000" in lines
    assert "assume_storage_prezeroed=1" in lines
    put = lines.splitlines().index("mv --force --no-target-directory /o/.x.img.vmtool-new /o/x.img")
    assert lines.splitlines()[put + 1:] == ["mv --no-target-directory /o/.x.img.vmtool-old /o/.x.img.vmtool-gone",
                                            "rm -rf --one-file-system /o/.x.img.vmtool-gone",
                                            "rm -rf --one-file-system /o/.x.img.vmtool-undo"]


def test_files_of_an_earlier_build_are_kept_until_all_new_ones_are_there(tmp_path: Path) -> None:
    give = plans.step(planned(tmp_path, present=("rootfs.img", "manifest.json", "vmlinuz")), "write x.img")
    lines = [action.shell() for action in give.actions]
    assert "ln /o/x.img.manifest.json /o/.x.img.vmtool-old/0" in lines
    assert "mv --force --no-target-directory /o/x.img.vmlinuz /o/.x.img.vmtool-old/3" in lines
    undo = plans.lines(give.undo)
    assert "mv --force --no-target-directory /o/.x.img.vmtool-old/4 /o/x.img" in undo
    assert "mv --force --no-target-directory /o/x.img.lock.json /o/.x.img.vmtool-old/new-1" in undo


def test_unchanged_input_only_writes_the_output_or_nothing(tmp_path: Path) -> None:
    assert [step.title for step in planned(tmp_path, image=True).steps if not step.skip] == ["write x.img"]
    assert not planned(tmp_path, image=True, given=True).changes
    assert planned(tmp_path, image=True, given=True, fresh=True).changes


def test_a_base_of_the_same_packages_is_used(tmp_path: Path) -> None:
    assert "mmdebstrap" not in text(planned(tmp_path, base=True))
    assert "mmdebstrap" in text(planned(tmp_path, base=True, fresh=True))


@pytest.mark.parametrize(("driver", "named"), [
    ({"packages": ["nvidia-open-kernel-dkms"]}, set()), ({"run": "d.run", "source": "src"}, {"run", "source"}),
    ({"modules": "src"}, {"modules"})], ids=["compile", "install", "take"])
def test_each_way_to_a_driver(tmp_path: Path, driver: dict[str, Any], named: set[str]) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "d.run").write_text("#!/bin/sh\n")
    changes = {"kernel": KERNEL, "driver": driver}
    made = planned(tmp_path, changes)
    [order] = orders(made, nvidia_modules)
    assert {name for name in ("run", "source", "modules") if order[name]} == named
    assert ("--include=make,linux-headers-amd64" in text(made)) == (not named)
    assert "driver.tar" in text(planned(tmp_path, changes, driver=True))
    assert orders(planned(tmp_path, changes, driver=True), nvidia_modules) == []


def test_what_a_driver_needs_is_refused_before(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(Refused, match=r"needs driver\.source"):
        planned(tmp_path, {"kernel": KERNEL, "driver": {"run": "f"}})
    with pytest.raises(Refused, match=r"linux-image-\*"):
        planned(tmp_path, {"kernel": {"package": "my-kernel"}, "driver": {"packages": ["n1"]}})


@pytest.mark.parametrize(("found", "detail"), [
    ({"missing": ("mmdebstrap",)}, "mmdebstrap is not installed"), ({"foreign": True}, "programs of amd64 do not run"),
    ({"free": 1 << 30}, "1.0 GiB free, 3.0 GiB are needed")])
def test_a_host_that_cannot_is_told_before(tmp_path: Path, found: dict[str, Any], detail: str) -> None:
    with pytest.raises(NotReady) as refused:
        planned(tmp_path, **found)
    assert detail in refused.value.details[0]
    assert refused.value.hint


@pytest.mark.parametrize(("debian", "expected"), [
    ({}, "deb http://deb.debian.org/debian bookworm-updates main"), ({"snapshot": "20250520T000000Z"},
     "[check-valid-until=no] http://snapshot.debian.org/archive/debian/20250520T000000Z bookworm main"),
    ({"snapshot": "20250520T000000Z"}, "archive/debian-security/20250520T000000Z bookworm-security main"),
    ({"snapshot": "20250520T000000Z", "pockets": []}, "20250520T000000Z bookworm main'\n"),
    ({"components": ["main", "contrib"], "pockets": []}, "deb http://deb.debian.org/debian bookworm main contrib"),
    ({"repositories": [{"name": "l", "source": "file:/r ./", "unsigned": True}]}, "deb [trusted=yes] file:/r ./")])
def test_package_sources(tmp_path: Path, debian: dict[str, Any], expected: str) -> None:
    assert expected in text(planned(tmp_path, {"debian": {"suite": "bookworm", **debian}}))


def test_another_architecture_is_installed_in_a_user_namespace_of_its_own(tmp_path: Path) -> None:
    lines = text(planned(tmp_path, {"arch": "arm64"}, emulator="/usr/lib/binfmt.d/qemu-aarch64.conf"))
    assert "--mode=unshare --skip=check/qemu" in lines
    assert "cat /usr/lib/binfmt.d/qemu-aarch64.conf > /proc/sys/fs/binfmt_misc/register" in lines
    assert "--mode=root" not in lines


def test_the_hosts_own_sources_are_used_when_they_are_for_just_this(tmp_path: Path) -> None:
    lines = text(planned(tmp_path, sources=("/etc/apt/sources.list",)))
    assert " bookworm /c/rootfs/scratch/tiny/base.tar /etc/apt/sources.list\n" in lines
    assert "deb.debian.org" not in lines


def test_every_step_has_a_harmless_way_back_and_waits(tmp_path: Path) -> None:
    for step in planned(tmp_path).steps:
        assert step.waits_only
        # What an exchange takes back lies in a directory that is there only while it lasts.
        harmless = [action for action in step.undo
                    if isinstance(action, p.Remove) or (isinstance(action, p.Run) and action.absent_messages)]
        assert step.skip or (step.undo and len(harmless) == len(step.undo))


def test_layouts_and_file_systems(tmp_path: Path) -> None:
    assert "mkfs.erofs" in text(planned(tmp_path, {"filesystem": "erofs"}))
    assert len(orders(planned(tmp_path, {"layout": "initrd"}), cpio)) == 1
    [headers] = orders(planned(tmp_path, {"layout": "bare", "size": "300Mi"}), write_headers)
    assert headers["geometry"] == fit("bare", 300 << 20, verity=False).to_json()


@pytest.mark.parametrize(("kernel", "driver", "toolkit", "branch", "message"), [
    ("6.1", {}, "1.17.3-1", "", "1.17.3-1 is refused"), ("6.1", {}, "", "", r"\(absent\) is refused"),
    ("6.2", {"kernel": "6.1", "version": "535.1"}, "1.17.8", "", "compiled for 6.1"),
    ("6.1", {"kernel": "6.1", "version": "535.1"}, "1.17.8", "550", "requires branch 550")])
def test_an_image_that_must_not_be_given_out_is_refused(kernel: str, driver: dict[str, str], toolkit: str, branch: str,
                                                        message: str) -> None:
    with pytest.raises(Refused, match=message):
        check_toolkit(toolkit)
        check_driver(driver, kernel, branch)
    check_toolkit("1.17.8-1")
    check_driver({"kernel": "6.1", "version": "535.1"}, "6.1", "535")


def test_a_lock_is_held_against_the_packages_first_and_the_whole_before_it_is_given_out(tmp_path: Path) -> None:
    lock = Path("/l.json")
    titles = [step.title for step in planned(tmp_path, {"kernel": KERNEL, "driver": {"packages": ["n1"]}},
                                             lock=lock).steps]
    assert titles.index("hold the packages against l.json") < titles.index("compile NVIDIA's kernel modules")
    assert titles[-2:] == ["hold what is in the image against l.json", "write x.img"]
    again = planned(tmp_path, image=True, lock=lock)
    assert [step.title for step in again.steps if not step.skip] == ["hold what is in the image against l.json",
                                                                     "write x.img"]
    assert "host.lockcheck" not in text(planned(tmp_path))


def test_a_branch_that_does_not_drive_the_hosts_gpu_is_refused_before(tmp_path: Path) -> None:
    changes = {"kernel": KERNEL, "driver": {"packages": ["n1"], "branch": "535"}}
    with pytest.raises(Refused, match="does not fit the GPU"):
        planned(tmp_path, changes, gpus=(0x2901,))
    planned(tmp_path, changes, gpus=(0x2330,))


def test_what_no_build_has_read_for_long_goes_from_the_cache(tmp_path: Path) -> None:
    store, now = Store(Cache(tmp_path)), 1_800_000_000.0
    old, used, young, needed = (store.base(name) for name in ("old", "used", "young", "needed"))
    driver = store.driver("old")
    for directory, archive, read, made in ((old, "base.tar", 40, 50), (used, "base.tar", 2, 50),
                                           (young, "base.tar", 50, 3), (needed, "base.tar", 40, 50),
                                           (driver, "driver.tar", 31, 50)):
        directory.mkdir(parents=True)
        (directory / archive).write_bytes(b"")
        os.utime(directory / archive, (now - read * 86400, now - made * 86400))
    assert superseded_parts(Proc({}), store, {needed}, now) == (old, driver)


def test_of_each_kind_the_newest_few_stay_and_tools_that_run(tmp_path: Path) -> None:
    store, now = Store(Cache(tmp_path)), time.time()
    bases = [store.base(f"{number:02}") for number in range(KEPT + 3)]
    tools = [store.root / "tools" / f"{number:02}" for number in range(KEPT + 3)]
    for age, base in enumerate(bases):
        base.mkdir(parents=True)
        (base / "base.tar").write_bytes(b"")
        os.utime(base / "base.tar", (now - age, now - age))
    # The last one is the youngest: a directory's age is that of its making.
    for tree in tools:
        tree.mkdir(parents=True)
    running = Proc({7: (f"{tools[1]}/usr/lib/ld.so", [])})
    gone = superseded_parts(running, store, {bases[-1], tools[0]}, now)
    assert gone == (*bases[KEPT:-1], tools[2])


def test_what_is_not_used_any_more_goes_after_the_image_is_made(tmp_path: Path) -> None:
    plan = planned(tmp_path, stale=(Path("/c/old"),))
    titles = [step.title for step in plan.steps]
    tidy = plans.step(plan, "remove what the cache has in vain")
    assert tidy.actions == (p.Remove(Path("/c/old")),)
    assert titles.index("make the image (kata-dax, ext4)") < titles.index(tidy.title)
