"""Growing: what is refused, what is planned, who is named as a user."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.recorded import Recorded
from tests.fakes.threads import exited_leader
from tests.unit.rootfs.make import EROFS, LUKS, MANIFEST, image, kata_dax, superblock
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.plan import plan_lines
from vmtool.plan.workers import name_of
from vmtool.rootfs.build.workers import run_e2fsck
from vmtool.rootfs.format.image_file import MIB, read_image, undo_file_path
from vmtool.rootfs.format.image_users import read_users
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.grow.plan import ResizeFacts, parse_growth, plan_resize
from vmtool.rootfs.grow.workers import grow_in_place

GIB = 1 << 30


def facts(path: Path, **changes: Any) -> ResizeFacts:
    return dataclasses.replace(ResizeFacts(read_image(path), (), 100 * GIB, None), **changes)


def lines(found: ResizeFacts, wanted: int = 2 * GIB, *, copy: bool = False) -> list[str]:
    return list(plan_lines(plan_resize(Path("/j"), found, wanted, Tools(None), copy=copy)))


@pytest.mark.parametrize(("text", "wanted"), [
    ("+1G", 2 * GIB), ("2G", 2 * GIB), ("2GiB", 2 * GIB), ("+512M", GIB + (512 << 20)), ("+0", GIB), ("3Gi", 3 * GIB)])
def test_sizes_are_qemu_imgs(text: str, wanted: int) -> None:
    assert parse_growth(text, GIB) == wanted


@pytest.mark.parametrize(("text", "message"), [
    ("512M", "only grown"), ("-1G", "not a size"), ("+20X", "unknown unit"), ("", "not a size")])
def test_what_is_no_growth_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refused, match=message):
        parse_growth(text, GIB)


def test_one_program_grows_an_image_in_its_place(tmp_path: Path) -> None:
    path = image(tmp_path / "i.img", fit("bare", GIB, verity=False))
    plan = lines(facts(path))
    assert [line for line in plan if line.startswith("#")] == ["# 1. grow the image in its place"]
    assert name_of(grow_in_place.__name__) in plan[-1]
    for line in (f'"image": "{path}",', '"resize2fs": ["resize2fs"],', f'"e2fsck": ["e2fsck", "-fn", "{path}"]'):
        assert f"\n {line}\n" in plan[-1]


def test_partition_and_hashes_move_along(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img", verity=True)
    text = "\n".join(lines(facts(path, manifest=MANIFEST)))
    geometry = fit("kata-dax", 2 * GIB, verity=True)
    assert f'"new": {json.dumps(geometry.to_json())}' in text
    assert '"verity": {"root_hash": "' + "c" * 64 + '", "salt": "aabb", "data_blocks": 1}' in text
    assert f'"e2fsck": ["e2fsck", "-fn", "{path}?offset=3145728"]' in text


@pytest.mark.parametrize(("filesystem", "wanted", "why"), [
    ({"state": 2}, 2 * GIB, "must be repaired"), ({"incompat": 0x84}, 2 * GIB, "must be repaired"),
    ({"compat": 0}, 7 * GIB, ""), ({"compat": 0}, 9 * GIB, "blocks in use have to move"),
    ({}, 512 * GIB, ""), ({}, 513 * GIB, "blocks in use have to move"), ({"reserved": 0}, 9 * GIB, "have to move"),
    # sparse_super2, meta_bg, MMP
    ({"compat": 0x210}, 2 * GIB, "a copy can grow with"), ({"incompat": 0x90}, 2 * GIB, "a copy can grow with"),
    ({"incompat": 0x180}, 2 * GIB, "a copy can grow with"), ({"compat": 0x1010}, 2 * GIB, "a copy can grow with")])
def test_what_cannot_grow_in_its_place_grows_in_a_copy(tmp_path: Path, filesystem: dict[str, int], wanted: int,
                                                       why: str) -> None:
    geometry = fit("bare", GIB, verity=False)
    path = image(tmp_path / "i.img", geometry, superblock(geometry.size, **filesystem))
    plan = lines(facts(path, free=1 << 50), wanted)
    if not why:
        assert plan[0] == "# 1. grow the image in its place"
        return
    assert plan[0].startswith("# 1. grow a copy of the file system: ") and plan[0].endswith(why)
    assert any(line.startswith("cp --reflink=auto") for line in plan)
    assert any(line.endswith(f".i.img.vmtool-new {wanted // 1024}K") for line in plan)


def test_an_image_with_other_names_grows_in_a_copy(tmp_path: Path) -> None:
    path = image(tmp_path / "i.img", fit("bare", GIB, verity=False))
    (tmp_path / "other").hardlink_to(path)
    assert "which keep the old image" in lines(facts(path))[0]


def test_a_copy_that_was_asked_for_has_partition_and_hashes(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img", verity=True)
    text = "\n".join(lines(facts(path, manifest=MANIFEST), copy=True))
    geometry = fit("kata-dax", 2 * GIB, verity=True)
    assert f"resize2fs {tmp_path}/.i.img.vmtool-part {geometry.size // 1024}K" in text
    assert f'"hash_start": {geometry.hash_start}' in text
    assert '"salt": "aabb"' in text
    assert f'"manifest": "{path}.manifest.json"' in text
    # A link that somebody planted there is not written through.
    assert "cp --remove-destination /j/manifest.json" in text


def test_a_torn_image_is_refused(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img")
    undo_file_path(path).touch()
    with pytest.raises(Refused, match="vmtool recover brings it back"):
        lines(facts(path))


def test_a_second_partition_with_files_is_not_lost(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img", verity=True)
    hashes = read_image(path).hashes
    assert hashes
    with path.open("r+b") as file:
        file.seek(hashes.start)
        file.write(superblock(64 * MIB))
    for copy in (False, True):
        with pytest.raises(Refused, match="partition 2 holds ext4, which would be lost"):
            lines(facts(path, manifest=MANIFEST), copy=copy)


def test_a_name_that_leaves_no_room_beside_it_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path / ("i" * 244), fit("bare", GIB, verity=False))
    with pytest.raises(Refused, match="the name is too long") as refused:
        lines(facts(path))
    assert "220 bytes" in refused.value.hint


def test_a_planted_link_in_the_way_backs_place_is_seen(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img")
    undo_file_path(path).symlink_to("nowhere")
    assert read_image(path).grow_interrupted


def test_every_step_can_be_undone_also_when_nothing_is_there(tmp_path: Path) -> None:
    for copy in (False, True):
        plan = plan_resize(Path("/j"), facts(kata_dax(tmp_path / "i")), 2 * GIB, Tools(None), copy=copy)
        for step in plan.steps:
            assert step.undo
            assert all(type(action).__name__ == "Remove" or getattr(action, "absent_messages", ())
                       or "roll_back" in action.shell() for action in step.undo)


def test_the_size_is_kept_when_it_is_enough(tmp_path: Path) -> None:
    plan = plan_resize(Path("/j"), facts(kata_dax(tmp_path / "i")), 256 * MIB, Tools(None))
    assert not plan.changes
    assert [step.skip for step in plan.steps] == ["it has 268435456 bytes"]


def test_kata_images_grow_in_128_mib(tmp_path: Path) -> None:
    assert '"total": 402653184' in "\n".join(lines(facts(kata_dax(tmp_path / "i")), 257 * MIB))
    assert not any("grow" in line for line in lines(facts(kata_dax(tmp_path / "j")), 256 * MIB)[1:])


@pytest.mark.parametrize(("head", "message"), [
    (EROFS, "erofs, which is written once"), (LUKS, "encrypted"), (b"QFI\xfb", "qcow2"), (b"", "not recognised")])
def test_other_images_are_refused(tmp_path: Path, head: bytes, message: str) -> None:
    path = image(tmp_path / "i", fit("bare", 64 * MIB, verity=False), head)
    with pytest.raises(Refused, match=message):
        lines(facts(path))


def test_an_encrypted_file_system_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "i", fit("bare", 64 * MIB, verity=False), superblock(64 * MIB, incompat=0x10080))
    with pytest.raises(Refused, match="fscrypt"):
        lines(facts(path))


def test_hashes_without_a_salt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="their salt is unknown") as refused:
        lines(facts(kata_dax(tmp_path / "i", verity=True)))
    assert "--manifest" in refused.value.hint


def test_an_image_in_use_is_refused_with_its_users(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="in use") as refused:
        lines(facts(kata_dax(tmp_path / "i"), users=("qemu (pid 7) has it open",)))
    assert refused.value.details == ("qemu (pid 7) has it open",)


def test_missing_space_is_told_before(tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="1 MiB free"):
        lines(facts(kata_dax(tmp_path / "i"), free=MIB), 100 * GIB)


@pytest.mark.parametrize(("free", "enough"), [(1 << 30, False), (3 << 30, True)])
def test_there_is_room_for_the_new_books_in_the_image_and_in_its_twin(tmp_path: Path, free: int,
                                                                      enough: bool) -> None:
    found = facts(image(tmp_path / "i.img", fit("bare", GIB, verity=False)), free=free)
    with contextlib.nullcontext() if enough else pytest.raises(NotReady, match="2048 MiB are needed"):
        lines(found, 65 * GIB)


def test_users_are_processes_mappings_and_loop_devices() -> None:
    host = Recorded({
        "texts": {"/proc/7/comm": "qemu-system-x86\n", "/proc/8/comm": "less\n", "/proc/8/maps": "",
                  "/proc/9/comm": "mapper\n", "/proc/9/maps": "7f0-7f1 r--p 00000000 fe:00 12   /i/a b.img\n",
                  "/sys/block/loop3/loop/backing_file": "/i/a b.img\n", "/sys/block/loop4/loop/backing_file": "/x\n",
                  "/sys/block/vda/size": "1\n"},
        "names": {"/proc": ["7", "8", "9", "self"], "/sys/block": ["loop3", "loop4", "vda"]},
        "links": {"/proc/7/fd/12": "/i/a b.img", "/proc/8/fd/0": "/dev/null"}})
    assert read_users(host, "/i/a b.img") == (
        "qemu-system-x86 (pid 7) has it open", "mapper (pid 9) has it open",
        "/dev/loop3 is attached to it; umount it, then: losetup -d /dev/loop3")
    assert read_users(host, "/i/a b.img", own=7)[0].startswith("mapper")


def test_a_user_whose_leader_has_exited_is_one_by_its_threads() -> None:
    host = Recorded({"texts": {**exited_leader(7), "/proc/7/comm": "qemu\n"},
                     "names": {"/proc": ["7"], "/proc/7/task": ["7", "8", "9"]},
                     "links": {"/proc/7/task/9/fd/3": "/i/a.img"}})
    assert read_users(host, "/i/a.img") == ("qemu (pid 7) has it open",)


def test_what_helps_when_the_copy_was_not_found_clean(tmp_path: Path) -> None:
    """An orphan_file that resize2fs grew beyond 32 GiB: e2fsck's own lines say only what is wrong."""
    path = kata_dax(tmp_path / "i.img")
    plan = plan_resize(Path("/j"), facts(path), 40 * GIB, Tools(None), copy=True)
    check = plans.run(plans.step(plan, "grow a copy").actions, "-fn")
    where = f"'{path}?offset=3145728'"
    assert f"tune2fs -O ^orphan_file {where} && e2fsck -fp {where}" in check.hint


def test_whatever_the_copy_fails_with_what_helps_is_said_of_the_image_itself(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "i.img")
    actions = plans.step(plan_resize(Path("/j"), facts(path), 4 * GIB, Tools(None), copy=True), "grow a copy").actions
    where = f"'{path}?offset=3145728'"
    [before] = plans.orders(actions, run_e2fsck)
    for hint in (before["hint"], plans.run(actions, "resize2fs").hint):
        assert hint.endswith(f"e2fsck -f {where}")


@pytest.mark.parametrize("filesystem", [{"ro_compat": 0x200}, {"incompat": 0x10080}])
def test_what_resize2fs_does_not_grow_is_refused_before_anything_is_copied(tmp_path: Path,
                                                                           filesystem: dict[str, int]) -> None:
    path = image(tmp_path / "i.img", fit("bare", GIB, verity=False), superblock(GIB, **filesystem))
    with pytest.raises(Refused, match=r"cannot be grown: its (files|blocks) are") as refused:
        lines(facts(path))
    assert "vmtool rootfs build" in refused.value.hint
