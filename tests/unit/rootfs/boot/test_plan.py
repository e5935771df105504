"""Boot plans, the initramfs's modules, and reports checked against promises."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.fakes.host import FakeHost
from tests.unit.rootfs.boot.cases import PROMISES, boot
from tests.unit.rootfs.make import EROFS, image, kata_dax
from vmtool.debian.tools import Tools
from vmtool.plan import plan_lines
from vmtool.plan.workers import name_of
from vmtool.rootfs.boot.check import check_report, read_report
from vmtool.rootfs.boot.plan import Boot, plan_boot
from vmtool.rootfs.boot.workers import append_initramfs
from vmtool.rootfs.boot.workers.make_initramfs import choose
from vmtool.rootfs.format.image_file import MIB
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.metadata.manifest import Promises

GOOD = """[    0.0] booting
VMTOOL-REPORT mounted yes\r
VMTOOL-REPORT kernel 6.1.0-50-amd64\r
VMTOOL-REPORT unit kata-containers.target active\r
VMTOOL-REPORT unit x.service active
VMTOOL-REPORT unit kata-agent.service active
VMTOOL-REPORT hook executable
VMTOOL-REPORT vermagic nvidia 6.1.0-50-amd64 SMP preempt mod_unload modversions
VMTOOL-REPORT loadable nvidia yes
VMTOOL-REPORT failed
VMTOOL-REPORT end
"""


def text(made: Boot) -> str:
    return "\n".join(plan_lines(plan_boot(made, Tools(None), (), 60.0)))


def test_a_good_report_keeps_every_promise() -> None:
    levels = {each.title: each.level for each in check_report(read_report(GOOD), PROMISES)}
    assert set(levels.values()) == {"ok"}
    assert len(levels) == 9


@pytest.mark.parametrize(("old", "new", "id", "detail"), [
    ("hook executable", "hook link", "boot.hook", "link, promised is executable"),
    ("hook executable", "hook absent", "boot.hook", "absent, promised is executable"),
    ("VMTOOL-REPORT hook executable\n", "", "boot.hook", "the guest did not say"),
    ("kata-agent.service active", "kata-agent.service failed", "boot.unit", "failed, promised is active"),
    ("x.service active", "x.service inactive", "boot.unit", "inactive, promised is active"),
    ("nvidia 6.1.0-50", "nvidia 6.1.0-49", "boot.vermagic", "6.1.0-49-amd64, promised is 6.1.0-50-amd64"),
    ("loadable nvidia yes", "loadable nvidia modprobe: FATAL: Module nvidia not found", "boot.loadable", "not found"),
    ("VMTOOL-REPORT end\n", "", "boot.ended", "did not come to its end"),
    ("VMTOOL-REPORT mounted yes\r\n", "", "boot.mounted", "did not mount"),
])
def test_a_broken_promise_is_told(old: str, new: str, id: str, detail: str) -> None:
    assert old in GOOD
    failed = [each for each in check_report(read_report(GOOD.replace(old, new)), PROMISES) if each.level == "fail"]
    assert [each.id for each in failed] == [id]
    assert detail in failed[0].detail


def test_failed_units_are_a_warning() -> None:
    report = read_report(GOOD.replace("failed\n", "failed a.service b.mount \n"))
    found = {each.id: each for each in check_report(report, PROMISES)}["boot.failed"]
    assert (found.level, found.detail) == ("warn", "a.service b.mount")


def test_a_silent_guest_keeps_no_promise() -> None:
    assert {each.level for each in check_report(read_report("panic"), PROMISES)} == {"fail"}


def test_the_image_is_not_written_and_a_comma_is_doubled(tmp_path: Path) -> None:
    lines = text(boot(kata_dax(tmp_path / "a,b")))
    assert f"file={tmp_path}/a,,b,format=raw,if=none,id=root,snapshot=on" in lines
    assert "-accel tcg,thread=multi -cpu max " in lines


def test_root_is_mounted_as_kata_does(tmp_path: Path) -> None:
    agent = text(boot(kata_dax(tmp_path / "i")))
    assert "mount -t ext4 -o ro /dev/vda1 /root" in agent
    plain = text(boot(kata_dax(tmp_path / "i"), promises=Promises()))
    assert "mount -t ext4 -o rw /dev/vda1 /root" in plain
    erofs = image(tmp_path / "e", fit("bare", 64 * MIB, verity=False), EROFS)
    assert "mount -t erofs -o ro /dev/vda /root" in text(boot(erofs, promises=Promises()))


def test_the_cached_qemu_is_run_by_its_own_loader(tmp_path: Path) -> None:
    lines = text(boot(kata_dax(tmp_path / "i"), qemu=""))
    assert "/q/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path" in lines
    assert "QEMU_MODULE_DIR=/q/usr/lib/x86_64-linux-gnu/qemu" in lines


def test_arm64_has_its_own_board_and_console(tmp_path: Path) -> None:
    lines = text(boot(kata_dax(tmp_path / "i"), architecture="arm64", qemu="/usr/bin/qemu-system-aarch64"))
    assert "-M virt,gic-version=3" in lines
    assert "console=ttyAMA0" in lines


def test_modules_come_after_what_they_depend_on() -> None:
    index = ("kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/fs/mbcache.ko\nkernel/fs/jbd2/jbd2.ko:\n"
             "kernel/fs/mbcache.ko:\nkernel/drivers/block/virtio_blk.ko.xz: kernel/virtio.ko\nkernel/virtio.ko:\n")
    assert choose(index, ("virtio_blk", "ext4", "built_in")) == [
        "kernel/virtio.ko", "kernel/drivers/block/virtio_blk.ko.xz", "kernel/fs/mbcache.ko", "kernel/fs/jbd2/jbd2.ko",
        "kernel/fs/ext4/ext4.ko"]


def test_an_initrd_is_booted_as_it_is_with_the_probe_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "i.img"
    path.write_bytes(gzip.compress(b"070701000") + bytes(64 * MIB))
    lines = text(boot(path))
    assert name_of(append_initramfs.__name__) in lines
    for piece in (f'"image": "{path}"', '"busybox": "/bb/busybox"', '"out": "/j/boot/initrd"'):
        assert piece in lines
    assert "rdinit=/vmtool/init" in lines
    assert "exec /init" in lines
    assert "-drive" not in lines
    assert f"-m {768 + 8 * 64}" in lines


def test_an_archive_is_appended_to_an_initrd_on_a_boundary_of_four(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for name in ("init", "probe.sh"):
        (tmp_path / "d" / name).write_text(name)
    (tmp_path / "busybox").write_text("bb")
    (tmp_path / "i").write_bytes(b"12345")
    append_initramfs.run(append_initramfs.Order(tmp_path / "i", tmp_path / "busybox", tmp_path / "d",
                                                tmp_path / "d" / "initrd"), FakeHost())
    data = (tmp_path / "d" / "initrd").read_bytes()
    assert data[:14] == b"12345" + bytes(3) + b"070701"
    places = [data.index(name) for name in (b"vmtool\0", b"vmtool/busybox\0", b"vmtool/init\0", b"TRAILER!!!\0")]
    assert places == sorted(places)
    assert b"vmtool/initrd" not in data
