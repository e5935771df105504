"""Packages and the driver into images that are there; several files exchanged as one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.integration.kills import killed, machine_states, recorded
from tests.integration.machine import Vmtool
from tests.integration.rootfs_images import copied, make_toolkit, recipe
from vmtool.errors import VmtoolError
from vmtool.host.local import LocalHost
from vmtool.plan import Action
from vmtool.rootfs.add.workers.ext4_to_tar import Ext4, convert
from vmtool.rootfs.build.replace_files import Replacement, plan_replacements
from vmtool.rootfs.format.digest import content_digest
from vmtool.rootfs.format.image_file import manifest_path, read_image
from vmtool.rootfs.metadata.lock_file import read_lock
from vmtool.rootfs.metadata.manifest import read_manifest

METADATA_FILES = (".manifest.json", ".lock.json", ".spdx.json")


@pytest.fixture(autouse=True)
def needs_root() -> None:
    if os.geteuid():
        pytest.skip("needs root: packages are installed in a chroot")


@pytest.fixture
def tool(memory: Path, tmp_path: Path) -> Iterator[Vmtool]:
    yield Vmtool(memory / "state")
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "rootfs/scratch" in line]
    assert not list(tmp_path.rglob("*.vmtool-*"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No kernel and no systemd, but hashes and papers."""
    directory = tmp_path_factory.mktemp("plain")
    path = recipe(directory / "r", name="rootfs-tiny", packages=[], kernel=None, units={}, size="384Mi")
    Vmtool(directory / "state")("rootfs", "build", path, "-o", directory / "i.img", timeout=900)
    return directory / "i.img"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toolkit(tmp_path_factory.mktemp("package"), "1.17.8-1")


def state_of(path: Path) -> tuple[str, ...]:
    """The image's content, and every paper's text."""
    return content_digest(path), *(path.with_name(path.name + suffix).read_text() for suffix in METADATA_FILES)


def test_a_package_file_is_installed_and_every_paper_follows(tool: Vmtool, image: Path, package: Path,
                                                             tmp_path: Path) -> None:
    path = copied(image, tmp_path)
    tool("rootfs", "add", "package", path, package)
    assert all(new != old for new, old in zip(state_of(path), state_of(image), strict=True))
    assert "\u2717" not in tool("rootfs", "verify", path).out
    manifest, (packages, _) = read_manifest(manifest_path(path)), read_lock(path.with_name(f"{path.name}.lock.json"))
    assert (manifest.added, manifest.toolkit) == (("package toolkit.deb",), "1.17.8-1")
    added = {each.name for each in packages} - {each.name for each in read_lock(
        image.with_name(f"{image.name}.lock.json"))[0]}
    assert added == {"nvidia-container-toolkit"}
    assert "nvidia-container-toolkit" in path.with_name(f"{path.name}.spdx.json").read_text()
    assert tool("rootfs", "inspect", path, "--json").json["contents"]["toolkit"] == "1.17.8-1"


@pytest.mark.slow
def test_what_cannot_be_installed_is_named_and_the_image_stays(tool: Vmtool, image: Path, tmp_path: Path) -> None:
    path = copied(image, tmp_path)
    before = state_of(path)
    failed = tool("rootfs", "add", "package", path, "no-such-package-anywhere", status=1, timeout=600)
    assert "Unable to locate package no-such-package-anywhere" in failed.err
    assert state_of(path) == before


def test_a_build_that_differs_from_its_lock_is_not_given_out(tool: Vmtool, image: Path, tmp_path: Path) -> None:
    path, lock = image.parent / "r", tmp_path / "lock.json"
    lock.write_bytes(image.with_name(f"{image.name}.lock.json").read_bytes())
    tool("rootfs", "build", path, "-o", tmp_path / "same.img", "--lock", lock, timeout=900)
    value = json.loads(lock.read_text())
    bash = next(each for each in value["packages"] if each["name"] == "bash")
    bash["version"] += "+1"
    value["packages"] = [each for each in value["packages"] if each["name"] != "dash"]
    lock.write_text(json.dumps(value))
    failed = tool("rootfs", "build", path, "-o", tmp_path / "other.img", "--lock", lock, status=1, timeout=900)
    assert f"bash is {bash['version'].removesuffix('+1')}, the lock has {bash['version']}" in failed.err
    assert "is not in the lock" in failed.err
    assert "2 differ from" in failed.err
    assert not list(tmp_path.glob("other.img*"))


@pytest.mark.slow
@pytest.mark.timing
def test_an_addition_killed_at_every_action_leaves_the_old_or_the_new(tool: Vmtool, image: Path, package: Path,
                                                                      tmp_path: Path) -> None:
    path = copied(image, tmp_path)
    add, before = ("rootfs", "add", "package", path, package), state_of(path)
    points = machine_states(recorded(tool, *add))
    after, seen = state_of(path), set()
    assert len(points) > 15
    for point in points:
        if state_of(path) != before:
            path = copied(image, tmp_path)
        assert killed(tool, point, *add), point
        tool("recover")
        seen.add(state_of(path))
        assert seen <= {before, after}, point
        assert not list(tmp_path.glob(".*.vmtool-*")), point
    assert seen == {before, after}


def test_files_killed_at_every_action_of_an_exchange_are_all_old_or_all_new(tmp_path: Path) -> None:
    """Every beginning of the exchange, and then its undo; the last one is done, and the undo does nothing."""
    for optional in (False, True):
        for there in (True, False):
            seen = []
            for count in range(15):
                directory = tmp_path / f"{optional}{there}{count}"
                directory.mkdir()
                seen.append(exchanged(directory, count, there=there, optional=optional))
            old = {"image": "old", "b": "old"} | ({"a": "old"} if there else {})
            new = {"image": "new", "b": "new"} | ({} if optional else {"a": "new"})
            assert [found for found in seen if found not in (old, new)] == []
            assert (seen[0], seen[-1]) == (old, new)


def exchanged(directory: Path, count: int, *, there: bool, optional: bool) -> dict[str, str]:
    """Do so many actions of an exchange, and its undo; the files that are there then, with their text."""
    for name in ("a", "b", "image"):
        if name != "a" or there:
            (directory / name).write_text("old")
        if name != "a" or not optional:
            (directory / f".{name}.vmtool-new").write_text("new")
    swaps = (Replacement(directory / ".a.vmtool-new", directory / "a", there, optional),
             *(Replacement(directory / f".{name}.vmtool-new", directory / name, existing=True)
               for name in ("b", "image")))
    step = plan_replacements("exchange", directory / "image", swaps)
    with (directory.parent / "log").open("a") as log:
        perform_all(list(step.actions)[:count], log)
        perform_all(list(step.undo), log)
        perform_all(list(step.undo), log)
    return {path.name: path.read_text() for path in directory.iterdir()}


def perform_all(actions: list[Action], log: IO[str]) -> None:
    for action in actions:
        action.do(LocalHost(log))


@pytest.mark.parametrize("options", [("-O", "^metadata_csum"), ("-O", "^extent,^64bit", "-b", "1024"), ("-I", "128")])
def test_an_ext4_is_read_as_it_was_made(tmp_path: Path, options: tuple[str, ...]) -> None:
    """What mke2fs put into a file system comes out of it again, whatever its block size and features."""
    tree, image = tmp_path / "tree", tmp_path / "x.img"
    (tree / "deep" / "er").mkdir(parents=True)
    for number in range(300):
        (tree / "deep" / f"file-{number:03}").write_text(f"{number}\n")
    (tree / "large").write_bytes(os.urandom(3 << 20) + bytes(1 << 20) + os.urandom(5))
    with (tree / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    os.link(tree / "large", tree / "deep" / "same")
    (tree / "short").symlink_to("deep")
    (tree / "long").symlink_to("x" * 200)
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    os.mkfifo(tree / "pipe")
    os.chown(tree / "short", 900, 901, follow_symlinks=False)
    (tree / "large").chmod(0o4711)
    os.setxattr(tree / "large", "user.a", b"\xff\x00b")
    subprocess.run(["mke2fs", "-q", "-t", "ext4", *options, "-d", tree, image, "32M"], check=True)
    system = Ext4(image, 0)
    convert(system, tmp_path / "x.tar")
    system.close()
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "--extract", "--xattrs-include=*", f"--file={tmp_path / 'x.tar'}", f"--directory={out}"],
                   check=True)
    assert subprocess.run(["diff", "--recursive", "--no-dereference", tree / "deep", out / "deep"]).returncode == 0
    for name in ("large", "sparse"):
        assert (out / name).read_bytes() == (tree / name).read_bytes()
    assert (out / "large").stat().st_mode == (tree / "large").stat().st_mode
    assert (out / "large").stat().st_ino == (out / "deep" / "same").stat().st_ino
    assert os.getxattr(out / "large", "user.a") == b"\xff\x00b"
    assert [os.readlink(out / name) for name in ("short", "long")] == ["deep", "x" * 200]
    assert ((out / "short").lstat().st_uid, (out / "null").stat().st_rdev) == (900, os.makedev(1, 3))
    assert not (out / "lost+found").exists()
    system = Ext4(image, 0)
    convert(system, tmp_path / "some.tar", ["deep", "absent"])
    system.close()
    told = subprocess.run(["tar", "--list", f"--file={tmp_path / 'some.tar'}"], capture_output=True, text=True).stdout
    assert len(told.splitlines()) == 303


def test_an_ext4_that_lies_is_refused_and_never_followed_out_of_the_file(tmp_path: Path) -> None:
    """Bytes of the inode table and of directories turned over: an error in words each time, or nothing changed."""
    piece = tmp_path / "x.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", "/etc/apt", piece, "8M"], check=True)
    data = bytearray(piece.read_bytes())
    refused = 0
    for place in range(4096, 600 << 10, 4093):
        broken = bytearray(data)
        broken[place:place + 64] = bytes(255 - byte for byte in broken[place:place + 64])
        piece.write_bytes(broken)
        try:
            system = Ext4(piece, 0)
            convert(system, tmp_path / "x.tar")
        except VmtoolError:
            refused += 1
    assert refused


def test_a_map_of_blocks_that_leads_to_itself_comes_to_an_end(tmp_path: Path) -> None:
    """A double indirect block of ext2's full of its own number would be read a million times for one file."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(b"x" * (5 << 20))
    piece = tmp_path / "x.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext2", "-b", "1024", "-d", tmp_path / "tree", piece, "8M"], check=True)
    found = subprocess.run(["debugfs", "-R", "stat /large", piece], capture_output=True, text=True, check=True).stdout
    block = int(re.findall(r"\(DIND\):(\d+)", found)[0])
    for name, value in (("block[DIND]", block), ("size", 60 << 30)):
        subprocess.run(["debugfs", "-w", "-R", f"set_inode_field /large {name} {value}", piece], check=True,
                       capture_output=True)
    with piece.open("r+b") as file:
        file.seek(block * 1024)
        file.write(block.to_bytes(4, "little") * 256)
    with pytest.raises(VmtoolError, match="larger than the file system"):
        convert(Ext4(piece, 0), tmp_path / "x.tar")


@pytest.mark.slow
def test_a_driver_is_added_byte_for_byte_as_a_build_would_make_it(tool: Vmtool, tmp_path: Path) -> None:
    """Two compilations, of the build and of the addition, give the same modules."""
    import yaml

    shipped = Path(__file__).parents[2] / "images/rootfs-debian-nvidia/recipe.yaml"
    value = yaml.safe_load(shipped.read_text())
    built, bare = tmp_path / "built.img", tmp_path / "bare.img"
    tool("rootfs", "build", "rootfs-debian-nvidia", "-o", built, timeout=3600)
    del value["driver"]
    (tmp_path / "r").mkdir()
    (tmp_path / "r/recipe.yaml").write_text(yaml.safe_dump(value | {"name": "rootfs-bare"}))
    tool("rootfs", "build", tmp_path / "r", "-o", bare, timeout=3600)
    tool("rootfs", "add", "driver", bare, "--package", "nvidia-open-kernel-dkms", "--branch", "535",
         "--recipe", "rootfs-debian-nvidia", timeout=3600)
    assert "\u2717" not in tool("rootfs", "verify", bare).out
    trees = []
    for path in (built, bare):
        found = read_image(path)
        assert found.rootfs
        system = Ext4(path, found.rootfs.start)
        convert(system, tmp_path / "x.tar", ["usr/lib/modules"])
        tree = tmp_path / f"{path.name}.tree"
        tree.mkdir()
        subprocess.run(["tar", "--extract", f"--file={tmp_path / 'x.tar'}", f"--directory={tree}"], check=True)
        trees.append(tree)
    assert subprocess.run(["diff", "--recursive", *trees]).returncode == 0
    assert list(trees[1].rglob("nvidia.ko"))
    manifest = read_manifest(manifest_path(bare))
    assert (manifest.added, manifest.promises.modules) == (("driver nvidia-open-kernel-dkms",), ("nvidia",))
    told = tool("rootfs", "boot", bare, timeout=900)
    assert "\u2713 module nvidia, its dependencies: yes" in told.out
    shutil.rmtree(trees[0])
