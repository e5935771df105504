"""Images that take a guest to read: what is refused before, and the plans."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.plans import orders
from tests.unit.rootfs.add.cases import APPLIANCE
from vmtool import plan as p
from vmtool.debian.tools import Tools
from vmtool.errors import NotReady, Refused
from vmtool.rootfs.add.plan_file import Addition
from vmtool.rootfs.add.plan_guestfs import check, is_foreign, plan_insert, plan_look
from vmtool.rootfs.add.workers import guestfs_insert, guestfs_inspect
from vmtool.rootfs.format.image_file import Extent, ImageFile, read_image
from vmtool.rootfs.format.qcow2 import qcow2_problem

TOOLS = Tools(Path("/t"))


def head(*, version: int = 3, backing: int = 0, encryption: int = 0, features: int = 0) -> bytes:
    data = bytearray(104)
    struct.pack_into(">4sIQ", data, 0, b"QFI\xfb", version, backing)
    struct.pack_into(">I", data, 32, encryption)
    struct.pack_into(">Q", data, 72, features)
    return bytes(data)


def image(directory: Path, data: bytes = b"") -> ImageFile:
    path = directory / "f.qcow2"
    path.write_bytes(data or head())
    return read_image(path)


def text(plan: p.Plan) -> str:
    return "\n".join(p.plan_lines(plan))


@pytest.mark.parametrize(("data", "problem"), [
    (head(), ""), (head(version=2), ""), (head(features=1), ""), (head(backing=200), "a backing file"),
    (head(features=4), "in another file"), (head(encryption=2), "encrypted"), (head(version=9), "unknown version"),
    (head()[:80], "unknown version"), (b"QFI\xfb", "no qcow2"), (b"", "no qcow2")])
def test_a_qcow2_that_leads_to_other_files_is_not_opened(data: bytes, problem: str) -> None:
    assert problem in qcow2_problem(data)
    assert bool(problem) == bool(qcow2_problem(data))


@pytest.mark.parametrize(("changes", "error", "hint"), [
    ({"binding": False}, "binding is missing", "python3-guestfs"),
    ({"missing": ("supermin", "qemu-img")}, "supermin, qemu-img missing", "apt-get install supermin qemu-utils")])
def test_what_libguestfs_needs_is_named_with_its_package(tmp_path: Path, changes: dict[str, Any], error: str,
                                                         hint: str) -> None:
    with pytest.raises(NotReady, match=error) as refused:
        check(image(tmp_path), dataclasses.replace(APPLIANCE, **changes))
    assert hint in refused.value.hint


def test_a_backing_file_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="backing file"):
        plan_look(Path("/j"), image(tmp_path, head(backing=104)), APPLIANCE, TOOLS, ())


def test_a_look_changes_nothing_and_has_a_deadline(tmp_path: Path) -> None:
    found = image(tmp_path)
    plan = plan_look(Path("/j"), found, APPLIANCE, TOOLS, ())
    [work] = [action for step in plan.steps for action in step.actions if isinstance(action, p.RunWorker)]
    assert work.deadline == 600.0
    [order] = orders(plan, guestfs_inspect)
    assert order == {"image": str(found.path), "format": "qcow2", "out": "/j/foreign.json",
                          "kernel": {"tree": "/c/k", "depmod": list(TOOLS.argv("depmod"))}}
    lines = text(plan)
    for piece in ("LIBGUESTFS_BACKEND=direct", "LIBGUESTFS_BACKEND_SETTINGS=force_tcg", "unshare --mount --pid",
                  f'"image": "{found.path}"', "depmod"):
        assert piece in lines
    own = dataclasses.replace(APPLIANCE, kernel=None, kvm=True, root=False)
    lines = text(plan_look(Path("/j"), found, own, TOOLS, ()))
    assert '"tree": null' in lines
    assert "force_tcg" not in lines
    assert "unshare" not in lines


def test_a_file_goes_into_a_copy_that_takes_the_images_place(tmp_path: Path) -> None:
    found = image(tmp_path)
    addition = Addition("/etc/motd", 0o640, text="hello\n")
    plan = plan_insert(Path("/j"), found, (), addition, APPLIANCE, TOOLS, ())
    lines = text(plan)
    new = f"{tmp_path}/.f.qcow2.vmtool-new"
    [order] = orders(plan, guestfs_insert)
    assert [order[name] for name in ("image", "file", "path", "mode")] == [new, "/j/addition", "/etc/motd", 0o640]
    assert f"mv --force --no-target-directory {new} {found.path}" in lines
    with pytest.raises(NotReady, match="in use"):
        plan_insert(Path("/j"), found, ("qemu (pid 7) has it open",), addition, APPLIANCE, TOOLS, ())


def test_a_guest_is_started_only_for_what_needs_one(tmp_path: Path) -> None:
    assert is_foreign(image(tmp_path))
    assert not is_foreign(image(tmp_path, b"LUKS\xba\xbe"))
    assert not is_foreign(image(tmp_path, b"garbage"))
    assert not is_foreign(dataclasses.replace(image(tmp_path), kind="kata"))
    cut = dataclasses.replace(image(tmp_path), kind="disk", partitions=(Extent(1 << 20, 1 << 40),))
    assert cut.problem.startswith("truncated: partition 1 ends at")
    assert not is_foreign(cut), "what is missing no guest would find"
    assert is_foreign(dataclasses.replace(cut, partitions=(Extent(0, 1),)))
