"""Images grown in their place: any ext4, killed at any write, brought back byte for byte.

The file systems are made here by mke2fs, so that nothing need be built.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.fakes import plans
from tests.integration.kills import Pace, killed, recorded
from tests.integration.machine import Vmtool
from vmtool.debian.tools import Tools
from vmtool.plan import RunWorker
from vmtool.plan.workers import PROGRAM
from vmtool.rootfs.add.workers.ext4_to_tar import Ext4, convert
from vmtool.rootfs.build.workers.write_headers import write_headers
from vmtool.rootfs.format.digest import read_content, sha256
from vmtool.rootfs.format.hash_tree import Verity, hash_tree
from vmtool.rootfs.format.image_file import MIB, manifest_path, read_image, undo_file_path
from vmtool.rootfs.format.layout import Kind, fit
from vmtool.rootfs.grow.plan_in_place import plan_growth
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, manifest_text, read_manifest

KILLED = Path(__file__).with_name("killed_write.py")
SIZE = 128 * MIB
# What vmtool's own images have, and what others may have: blocks of 1 KiB, no checksums, no flex_bg, old ext3.
KINDS = {"own": (), "small-blocks": ("-b", "1024"), "no-checksums": ("-O", "^metadata_csum,^64bit"),
         "no-flex": ("-O", "^flex_bg"), "ext3": ("-O", "^extent,^64bit,^metadata_csum,^flex_bg,^huge_file")}
BESIDE = ("own", "small-blocks")


@pytest.fixture
def tool(memory: Path, tmp_path: Path) -> Iterator[Vmtool]:
    """Nothing is left beside the images."""
    yield Vmtool(memory / "state")
    assert not list(tmp_path.rglob("*.vmtool-*"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with bytes of their own, one of them in pieces."""
    directory = tmp_path_factory.mktemp("tree")
    for number in range(400):
        (directory / f"{number:03}").write_bytes(hashlib.sha256(bytes([number % 251])).digest() * (number * 7 + 1))
    with (directory / "sparse").open("wb") as file:
        for number in range(0, 40, 2):
            file.seek(number * 65536)
            file.write(os.urandom(4096))
    return directory


def bare(path: Path, tree: Path, *options: str, size: int = SIZE) -> Path:
    """An ext4 with deleted files' bytes in many free blocks."""
    path.write_bytes(b"")
    with path.open("r+b") as file:
        for at in range(0, size, MIB):
            file.seek(at)
            file.write(b"\xa5" * 8192)
        file.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "nodiscard", *options, "-d", tree, path], check=True)
    return path


def kata(path: Path, tree: Path, kind: Kind, *options: str, verity: bool) -> Path:
    """Kata's layout, with a manifest."""
    geometry = fit(kind, SIZE, verity=verity)
    piece = bare(path.with_name("piece"), tree, *options, size=geometry.size)
    subprocess.run(["truncate", f"--size={geometry.total}", path], check=True)
    subprocess.run(["dd", f"if={piece}", f"of={path}", "bs=1M", f"seek={geometry.start // MIB}", "conv=notrunc"],
                   check=True, capture_output=True)
    piece.unlink()
    made = write_headers(path, geometry, "aabb" if verity else "")
    describe(path, kind, made)
    return path


def describe(path: Path, kind: Kind, verity: Verity | None) -> None:
    part = VerityPart(**asdict(verity), kernel_verity_params=verity.kernel_params) if verity else None
    told = Manifest(name="x", recipe="a" * 64, architecture="amd64", layout=kind, filesystem="ext4", verity=part,
                    **read_content(path))
    manifest_path(path).write_text(manifest_text(told))


def digest(path: Path) -> str:
    return sha256(path)


def state_of(path: Path) -> tuple[int, str, str]:
    """Size and sha256 of the image, and its manifest."""
    manifest = manifest_path(path)
    return path.stat().st_size, digest(path), manifest.read_text() if manifest.exists() else ""


def files_in(path: Path, scratch: Path) -> str:
    """A digest of all that is in the image's file system."""
    found = read_image(path)
    assert found.rootfs
    system = Ext4(path, found.rootfs.start)
    convert(system, scratch / "files.tar")
    system.close()
    return digest(scratch / "files.tar")


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_any_ext4_grows_in_its_place_and_keeps_its_files(tool: Vmtool, tree: Path, tmp_path: Path,
                                                         options: tuple[str, ...]) -> None:
    image = bare(tmp_path / "i.img", tree, *options)
    inode, files = image.stat().st_ino, files_in(image, tmp_path)
    for more in ("+64M", "+3G"):
        assert "grow the image in its place" in tool("rootfs", "resize", image, more).err
        subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    found = read_image(image)
    assert found.superblock
    assert found.superblock.size == found.size == SIZE + (64 << 20) + (3 << 30)
    assert (image.stat().st_ino, files_in(image, tmp_path)) == (inode, files)
    # Zeros of inode tables, which old file systems have no flag for, take no room.
    assert image.stat().st_blocks * 512 < SIZE + 32 * MIB


@pytest.mark.parametrize("kind", ["kata", "kata-dax"])
@pytest.mark.parametrize("options", [KINDS[name] for name in BESIDE], ids=BESIDE)
def test_hashes_and_manifest_are_those_that_are_made_anew(tool: Vmtool, tree: Path, tmp_path: Path, kind: Kind,
                                                          options: tuple[str, ...]) -> None:
    """Only what changed is hashed, and the result is that of hashing everything."""
    image = kata(tmp_path / "i.img", tree, kind, *options, verity=True)
    files = files_in(image, tmp_path)
    # A little, so that the old hashes lie where the new ones begin, and much.
    manifest_path(image).chmod(0o640)
    for more in ("+128M", "+2G"):
        assert "in its place" in tool("rootfs", "resize", image, more).err
        found, manifest = read_image(image), read_manifest(manifest_path(image))
        assert found.rootfs and found.hashes and manifest.verity
        with image.open("rb") as file:
            root, stored = hash_tree(file.fileno(), found.rootfs.start, found.rootfs.size, bytes.fromhex("aabb"))
            file.seek(found.hashes.start)
            assert (root, stored) == (manifest.verity.root_hash, file.read(len(stored)))
        assert {name: getattr(manifest, name) for name in ("size", "content", "pieces")} == read_content(image)
        assert "\u2717" not in tool("rootfs", "verify", image).out
    assert files_in(image, tmp_path) == files
    assert manifest_path(image).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [9, 399], ids=["touched", "elsewhere"])
def test_a_change_that_somebody_made_does_not_become_right(tool: Vmtool, tree: Path, tmp_path: Path,
                                                           number: int) -> None:
    """In a piece that growing touches it is found at once, elsewhere by the next verification."""
    image = kata(tmp_path / "i.img", tree, "kata", verity=True)
    with image.open("r+b") as file:
        at = file.read().index(hashlib.sha256(bytes([number % 251])).digest() * (number * 7 + 1))
        file.seek(at)
        file.write(b"#")
    before = state_of(image)
    failed = tool("rootfs", "resize", image, "+128M", status=None)
    if failed.status:
        assert "are not what the manifest says" in failed.err
        assert state_of(image) == before
    told = tool("rootfs", "verify", image, status=4).out
    assert "\u2717 bytes" in told and "\u2717 dm-verity root hash" in told
    assert bool(failed.status) is (number == 9)


def test_hashes_that_are_not_the_manifests_are_refused(tool: Vmtool, tree: Path, tmp_path: Path) -> None:
    image = kata(tmp_path / "i.img", tree, "kata", verity=True)
    hashes = read_image(image).hashes
    assert hashes
    with image.open("r+b") as file:
        file.seek(hashes.start + 5 * 4096)
        file.write(b"#")
    before = state_of(image)
    failed = tool("rootfs", "resize", image, "+128M", status=2)
    assert "are not those of the manifest's root hash" in failed.err
    assert state_of(image) == before


def test_a_damaged_file_system_is_as_it_was_and_a_copy_of_it_is_repaired(tool: Vmtool, tree: Path,
                                                                         tmp_path: Path) -> None:
    """Its superblock says that it is clean, so only e2fsck finds out, after the image was written to."""
    image = bare(tmp_path / "i.img", tree)
    told = subprocess.run(["debugfs", "-R", "stat /300", image], check=True, capture_output=True, text=True).stdout
    block = int(re.findall(r"\(0-\d+\):(\d+)", told)[0])
    subprocess.run(["debugfs", "-w", "-R", f"freeb {block} 4", image], check=True, capture_output=True)
    before = state_of(image)
    failed = tool("rootfs", "resize", image, "+1G", status=1)
    assert "e2fsck" in failed.err and "--copy" in failed.err
    assert state_of(image) == before
    tool("rootfs", "resize", image, "+1G", "--copy")
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    assert image.stat().st_size == SIZE + (1 << 30)


@pytest.mark.parametrize(("why", "options"), [
    ("blocks in use have to move", ("-O", "^resize_inode")), ("the file system must be repaired", ()),
    ("the file has other names", ()), ("the file system has features", ("-O", "orphan_file"))],
    ids=["move", "unclean", "link", "orphans"])
def test_what_cannot_grow_in_its_place_grows_in_a_copy(tool: Vmtool, tree: Path, tmp_path: Path, why: str,
                                                       options: tuple[str, ...]) -> None:
    image = bare(tmp_path / "i.img", tree, *options)
    files, inode = files_in(image, tmp_path), image.stat().st_ino
    if "repaired" in why:
        subprocess.run(["debugfs", "-w", "-R", "ssv state 0", image], check=True, capture_output=True)
    if "names" in why:
        (tmp_path / "other").hardlink_to(image)
    assert why in tool("rootfs", "resize", image, "+20G").err
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    assert files_in(image, tmp_path) == files
    assert image.stat().st_ino != inode
    if "names" in why:
        assert (tmp_path / "other").stat().st_size == SIZE


@pytest.mark.timing
@pytest.mark.parametrize("copy", [False, True], ids=["place", "copy"])
def test_killed_at_any_action_it_is_the_old_or_the_new_one(tool: Vmtool, tree: Path, tmp_path: Path, copy: bool,
                                                           pace: Pace) -> None:
    """Once by `recover`, once by the next command on the image."""
    given = kata(tmp_path / "given.img", tree, "kata-dax", verity=True)
    image = tmp_path / "i.img"
    copied(given, image)
    old = state_of(image)
    resize: tuple[str | Path, ...] = ("rootfs", "resize", image, "+128M", *(["--copy"] if copy else []))
    points = recorded(tool, *resize)
    assert len(points) > 4
    for point in pace.some(points):
        copied(given, image)
        assert killed(tool, point, *resize), point
        if copy or points.index(point) % 3 == 0:
            tool("recover")
        else:
            tool("rootfs", "resize", image, "+0")
        # Which bytes of the new file system differ from run to run is resize2fs's: it notes the time.
        assert state_of(image) == old or image.stat().st_size > SIZE, point
        assert "\u2717" not in tool("rootfs", "verify", image).out, point
        assert not list(tmp_path.glob(".*.vmtool-*")), point


def copied(given: Path, image: Path) -> None:
    subprocess.run(["cp", "--sparse=always", given, image], check=True)
    shutil.copy(manifest_path(given), manifest_path(image))


def killed_in(number: int, argv: tuple[str, ...]) -> bool:
    """Run `python -m MODULE ...` until its change of a file of that number; whether it was killed there."""
    done = subprocess.run([argv[0], KILLED, str(number), *argv[3:]], capture_output=True, timeout=300, check=False)
    assert done.returncode in (0, -9), done.stderr.decode()
    return done.returncode == -9


@pytest.mark.timing
def test_killed_in_any_write_it_goes_back_byte_for_byte(tree: Path, tmp_path: Path, pace: Pace) -> None:
    """A growth that is killed in its writes, and then its undo likewise."""
    given = kata(tmp_path / "given.img", tree, "kata-dax", verity=True)
    image = tmp_path / "i.img"
    copied(given, image)
    old = state_of(image)
    grow, back = actions(image)
    for number in pace.numbers():
        if not killed_in(number, grow):
            break
        if undo_file_path(image).exists() or image.stat().st_size == SIZE:
            subprocess.run(back, check=True)
            assert state_of(image) == old, number
        else:                                          # the last of all: it is grown
            copied(given, image)
    assert number > 40
    assert not undo_file_path(image).exists()
    copied(given, image)
    grow_interrupted(image)
    saved, grown = undo_file_path(image).read_bytes(), tmp_path / "grown.img"
    subprocess.run(["cp", "--sparse=always", image, grown], check=True)
    for number in pace.numbers():
        if not killed_in(number, back):
            break
        subprocess.run(back, check=True)
        assert state_of(image) == old, number
        subprocess.run(["cp", "--sparse=always", grown, image], check=True)
        undo_file_path(image).write_bytes(saved)
    assert number > 10
    assert state_of(image) == old
    assert not undo_file_path(image).exists()


def actions(image: Path, **programs: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The argv that grows an image to 512 MiB, and that of its undo, each with its order.

    Args:
        programs: what runs in the place of e2fsck or resize2fs.
    """
    found, papers = read_image(image), manifest_path(image)
    told = read_manifest(papers) if papers.exists() else None
    verity = told.verity if told else None
    step = plan_growth(found, fit(found.kind, 512 * MIB, verity=bool(verity)),  # type: ignore[arg-type]
                       verity, papers if told else None, Tools(None))
    grow, back = plans.one(step.actions, RunWorker), plans.one(step.undo, RunWorker)
    return (*PROGRAM, grow.name, json.dumps(grow.order | programs)), (*PROGRAM, back.name, json.dumps(back.order))


def grow_interrupted(image: Path) -> None:
    """Grow an image, and be killed when all is written."""
    grow, _ = actions(image, e2fsck=["sh", "-c", "kill -9 $PPID"])
    assert subprocess.run(grow, check=False).returncode == -9
    assert read_image(image).grow_interrupted


def test_a_torn_image_is_not_used_and_the_next_command_brings_it_back(tool: Vmtool, tree: Path,
                                                                      tmp_path: Path) -> None:
    image = kata(tmp_path / "i.img", tree, "kata-dax", verity=True)
    old, changed = state_of(image), image.stat().st_mtime_ns
    grow_interrupted(image)
    for words in (("inspect", image), ("boot", image)):
        assert "vmtool recover brings it back" in tool("rootfs", *words, status=2).err
    assert "vmtool recover brings it back" in tool("rootfs", "verify", image, status=4).out
    with image.open("rb"):
        assert "is in use" in tool("rootfs", "resize", image, f"{SIZE}", status=3).err
    told = tool("rootfs", "resize", image, f"{SIZE}")
    assert "bring the image back" in told.err
    assert (state_of(image), image.stat().st_mtime_ns) == (old, changed)


def test_a_hole_behind_the_file_system_is_one_again(tool: Vmtool, tree: Path, tmp_path: Path) -> None:
    image = bare(tmp_path / "i.img", tree)
    os.truncate(image, 2 * SIZE)
    before = state_of(image)
    grow_interrupted(image)
    tool("rootfs", "resize", image, "+0")
    assert state_of(image) == before


@pytest.mark.parametrize("how", ["made again", "copied", "used"])
def test_a_way_back_that_is_of_another_state_changes_nothing(tool: Vmtool, tree: Path, tmp_path: Path,
                                                             how: str) -> None:
    """Also when the file has the old one's inode number, and when a guest wrote to what was torn."""
    image = bare(tmp_path / "i.img", tree)
    grow_interrupted(image)
    if how == "made again":
        image.unlink()
        bare(image, tree)
    elif how == "copied":
        other = bare(tmp_path / "other.img", tree)
        subprocess.run(["cp", other, image], check=True)
    else:
        subprocess.run(["debugfs", "-w", "-R", f"write {__file__} guestdata", image], check=True, capture_output=True)
    before = state_of(image)
    failed = tool("rootfs", "resize", image, "+1G", status=2)
    assert "is not the file that was being grown any more, or was changed since" in failed.err
    assert f"rm {undo_file_path(image)}" in failed.err
    assert state_of(image) == before
    undo_file_path(image).unlink()


def test_an_image_that_was_removed_after_a_kill_is_told(tool: Vmtool, tree: Path, tmp_path: Path) -> None:
    image = bare(tmp_path / "i.img", tree)
    grow_interrupted(image)
    image.unlink()
    failed = tool("rootfs", "resize", image, "+1G", status=2)
    assert "it is not there any more" in failed.err and f"rm {undo_file_path(image)}" in failed.err
    assert "Traceback" not in failed.err
    undo_file_path(image).unlink()


def test_who_opens_the_image_while_it_is_written_must_wait_or_is_noticed(tree: Path, tmp_path: Path) -> None:
    image = bare(tmp_path / "i.img", tree)
    grow, _ = actions(image)
    before = state_of(image)
    with image.open("rb"):
        refused = subprocess.run(grow, capture_output=True, text=True, check=False)
    assert refused.returncode == 3 and "is in use" in refused.stderr
    assert state_of(image) == before


# A disk that is full at the third write.
FULL = """
import sys
from vmtool.engine import worker
from vmtool.host import files
from vmtool.rootfs.grow.workers import grow_in_place  # whose scratch copy is on another disk: it has the real one
real, left = files.write_at, [3]
def write(*arguments):
    left[0] -= 1
    if not left[0]:
        raise OSError(28, "No space left on device")
    real(*arguments)
files.write_at = write
worker.main(sys.argv[1:])
"""


def test_on_a_full_disk_the_image_is_as_it_was(tree: Path, tmp_path: Path) -> None:
    (directory := tmp_path / "images").mkdir()
    image = kata(directory / "i.img", tree, "kata-dax", verity=True)
    before, (grow, _) = state_of(image), actions(image)
    failed = subprocess.run([sys.executable, "-c", FULL, *grow[4:]], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "no space left on device\nhint: make room there" in failed.stderr
    assert state_of(image) == before
    assert sorted(os.listdir(directory)) == ["i.img", "i.img.manifest.json"]


# Starts somebody who opens the file $1 to write to it, which must wait; then it is the program that follows $2.
MEANWHILE = """
import os, subprocess, sys, time
image, out = sys.argv[1:3]
code = "import os, sys; f = os.open(sys.argv[1], os.O_RDWR); print(os.fstat(f).st_size, os.listdir(sys.argv[2]))"
child = subprocess.Popen([sys.executable, "-c", code, image, os.path.dirname(image)], stdout=open(out, "w"),
                         stderr=subprocess.STDOUT, start_new_session=True)
end = time.monotonic() + 60
while "lease" not in open(f"/proc/{child.pid}/wchan").read() and time.monotonic() < end:
    time.sleep(0.01)
os.execvp(sys.argv[3], sys.argv[3:])
"""


@pytest.mark.timing
@pytest.mark.parametrize("program", ["resize2fs", "e2fsck"])
def test_a_guest_that_starts_meanwhile_finds_the_old_or_the_new_image(tree: Path, tmp_path: Path,
                                                                      program: str) -> None:
    """Before the image is whole the growth goes back; while e2fsck looks, the guest waits."""
    (directory := tmp_path / "images").mkdir()
    image, out = bare(directory / "i.img", tree), tmp_path / "out"
    before, argv = state_of(image), {"resize2fs": ["resize2fs"], "e2fsck": ["e2fsck", "-fn", str(image)]}[program]
    grow, _ = actions(image, **{program: [sys.executable, "-c", MEANWHILE, str(image), str(out), *argv]})
    done = subprocess.run(grow, capture_output=True, text=True, check=False)
    deadline = time.monotonic() + 120
    while not out.read_text():
        assert time.monotonic() < deadline
    if program == "resize2fs":
        assert done.returncode == 3 and "another process opened it" in done.stderr
        assert state_of(image) == before
    else:
        assert not done.returncode, done.stderr
        subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)
    assert out.read_text() == f"{SIZE if program == 'resize2fs' else 512 * MIB} ['i.img']\n"


def test_python_is_the_one_of_the_tests() -> None:
    """The plan's programs run with this interpreter, so `killed_in` can take their first three words away."""
    assert PROGRAM[:3] == (sys.executable, "-I", "-m")
