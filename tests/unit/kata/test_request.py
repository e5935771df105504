"""What is found on hosts and in images, and every problem at once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import asked, body
from vmtool.findings import lines
from vmtool.kata.check import check_request
from vmtool.kata.facts import read_target
from vmtool.kata.image import layout_of, read_hooks, read_image
from vmtool.kata.request import survey
from vmtool.kata.which import read_which
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, manifest_text

VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"


def head(at: dict[int, bytes]) -> bytes:
    data = bytearray(2048)
    for offset, piece in at.items():
        data[offset:offset + len(piece)] = piece
    return bytes(data)


MBR = {510: b"\x55\xaa", 450: b"\x83", 454: (3 << 20 >> 9).to_bytes(4, "little")}


@pytest.mark.parametrize(("data", "layout"), [
    (head({0x438: b"\x53\xef"}), ("bare", 0)), (head({1024: b"\xe2\xe1\xf5\xe0"}), ("bare", 0)),
    (head({0: b"XFSB"}), ("bare", 0)), (head(MBR), ("partition", 3 << 20)), (head(MBR | {450: b"\xee"}), ("gpt", 0)),
    (head(MBR | {454: b"\0\0\0\0"}), ("unknown", 0)), (head({0: b"QFI\xfb"}), ("qcow2", 0)),
    (head({0: b"\x1f\x8b"}), ("archive", 0)), (head({0: b"070701"}), ("archive", 0)), (head({}), ("unknown", 0)),
    (b"ab", ("unknown", 0)),
])
def test_layouts(data: bytes, layout: tuple[str, int]) -> None:
    assert layout_of(data) == layout


def image_host(data: bytes | None, size: int = 256 << 20, manifest: str | None = None,
               more: dict[str, Any] | None = None) -> Recorded:
    """A host with /i, an image that starts with these bytes."""
    outputs: dict[str, Any] = {"stat -L -c %s /i": {"status": 1} if data is None else {"out": f"{size}\n"}}
    if data is not None:
        outputs["od -An -v -tx1 -N 2048 /i"] = {"out": data.hex(" ")}
    texts = {"/i.manifest.json": manifest} if manifest else {}
    return Recorded({"outputs": outputs | (more or {}), "texts": texts})


def test_an_image_and_its_manifest() -> None:
    manifest = f'{{"filesystem": "erofs", "verity": {{"kernel_verity_params": "{VERITY}"}}}}'
    found = read_image(image_host(head(MBR), manifest=manifest), "/i")
    assert (found.verity, found.filesystem) == (VERITY, "erofs")
    for bad in ("{", "[]", '{"verity": {}}', '{"verity": 1}', manifest.replace("=ab", "=xyz"), "[" * 100_000,
                '{"filesystem": ["ext4"]}', '{"filesystem": "ntfs"}'):
        assert read_image(image_host(head(MBR), manifest=bad), "/i").verity == ""


def test_the_manifest_that_rootfs_build_writes_is_understood() -> None:
    """Its own models make it, so that the two cannot drift apart."""
    part = VerityPart(root_hash="ab" * 32, salt="cd", data_blocks=9, kernel_verity_params=VERITY)
    manifest = Manifest(name="n", recipe="0" * 64, architecture="amd64", layout="kata", filesystem="ext4", size=1,
                        content="0" * 64, verity=part)
    host = image_host(head(MBR), manifest=manifest_text(manifest))
    found = survey(host, body("snp", kata={"version": "4.1", "image": "/i"})).asked
    assert (found.verity, found.filesystem) == (VERITY, "ext4")
    older = survey(host, body("snp", kata={"version": "3.15", "image": "/i"})).asked
    assert older.verity == "", "that release knows no such key"
    assert read_image(image_host(None), "/i").size is None
    garbage = image_host(head(MBR), more={"od -An -v -tx1 -N 2048 /i": {"out": "od: input error"}})
    assert read_image(garbage, "/i").layout == ""


@pytest.mark.parametrize(("listing", "found"), [
    ({"out": "/16/040755/0/0/.//\n/17/100755/0/0/h.sh/2/\n"}, True), ({"out": "/17/100644/0/0/h.sh/2/\n"}, False),
    ({"out": "/17/120777/0/0/h.sh/2/\n"}, False), ({"err": "nope: File not found by ext2_lookup"}, False),
    ({"err": "ls: Filesystem not open"}, None),
])
def test_only_an_executable_regular_file_is_a_hook(listing: dict[str, str], found: bool | None) -> None:
    host = image_host(head(MBR), more={"debugfs -R 'ls -p /h/prestart' '/i?offset=3145728'": listing})
    assert read_hooks(host, read_image(host, "/i"), "/h") is found
    assert read_hooks(host, read_image(host, "/i"), "/h; rm") is None


@pytest.mark.parametrize(("release", "tee", "gpus", "more", "message"), [
    ("3.15", "virtcca", 0, {}, "has no virtcca, and would boot an ordinary VM in silence; use CC-0.8.0, 3.15-virtcca"),
    ("4.1", "virtcca", 1, {}, "has no virtcca with GPUs"),
    ("CC-0.8.0", "snp", 1, {}, "CC-0.8.0 has no snp with GPUs; use 3.15, 3.30, 4.1"),
    ("3.15-virtcca", "tdx", 0, {}, "has no tdx"),
    ("4.1", "none", 0, {"kata": {"image": "/i", "initrd": "/j"}}, "image and initrd are both set"),
    ("4.1", "none", 1, {"kata": {"cold_plug_vfio": "no-port"}}, "no-port would leave them out"),
    ("4.1", "none", 17, {}, "17 root ports, but Kata makes 16"),
    ("4.1", "none", 1, {"kata": {"root_ports": 17}}, "17 root ports"),
    ("4.1", "none", 3, {"kata": {"root_ports": 2}}, "2, but there are 3 devices"),
    ("CC-0.8.0", "virtcca", 15, {}, "virtCCA takes 14"),
    ("4.1", "snp", 1, {"kata": {"vfio": "group"}}, "takes GPUs by iommufd only, not by group"),
    ("3.15-virtcca", "virtcca", 1, {"kata": {"vfio": "iommufd"}}, "by group only, not by iommufd"),
    ("3.15", "none", 0, {"verity": VERITY}, "knows no kernel_verity_params"),
    ("4.1", "none", 0, {"verity": VERITY, "kata": {"initrd": "/j"}}, "no root disk to verify"),
    ("4.1", "none", 0, {"memory": "128Mi"}, "Kata takes 2048 MiB instead"),
    ("CC-0.8.0", "virtcca", 0, {"memory": "512Mi"}, "at least 1 GiB of secure memory"),
])
def test_what_is_wrong_with_a_wish_anywhere(release: str, tee: str, gpus: int, more: dict[str, Any],
                                            message: str) -> None:
    assert message in "\n".join(lines(check_request(asked(release, tee, gpus, **more))))


def test_a_good_wish_has_no_problem() -> None:
    assert not list(check_request(asked("3.15-virtcca", "virtcca", 14)))


def test_the_shims_version_and_files_decide() -> None:
    found = survey(Recorded.load("kunpeng-virtcca"), body("virtcca", 1))
    assert (found.asked.release.name, found.asked.arch, found.asked.vfio) == ("3.15-virtcca", "aarch64", "group")
    assert not found.check_request()
    snp = survey(Recorded.load("epyc-snp"), body("snp", 1))
    assert (snp.asked.release.name, snp.asked.vfio) == ("3.30", "iommufd")
    assert survey(Recorded.load("debian12-pvm"), body("virtcca")).asked.release.name == "3.15-virtcca"


def test_every_problem_of_the_host_at_once() -> None:
    host = Recorded.load("debian12-pvm", outputs={
        "stat -L -c %s /i": {"out": str(100 << 20)},
        "od -An -v -tx1 -N 2048 /i": {"out": head({0x438: b"\x53\xef"}).hex(" ")},
        "debugfs -R 'ls -p /usr/share/oci/hooks/prestart' /i": {"err": "File not found by ext2_lookup"}},
        texts={"/k/config-6.12.1": "CONFIG_DM_VERITY=y\n"}, links={"/k/vmlinux.container": "vmlinux-6.12.1"})
    wish = body("none", 1, {"version": "4.1", "image": "/i", "kernel": "/k/vmlinux.container", "verity": VERITY,
                            "injection": "hook"}, memory="64Gi", cpus=64)
    told = "\n".join(lines(survey(host, wish).check_host()))
    for part in ("65536 MiB, but this host has", "64, but this host has 2",
                 "/opt/kata/bin/qemu-system-x86_64 is not there",
                 "/i is a file system without a partition table, but Kata 4.1 boots /dev/vda1",
                 "/i has no executable file in /usr/share/oci/hooks/prestart", "without CONFIG_DM_INIT"):
        assert part in told


@pytest.mark.parametrize(("release", "data", "size", "message"), [
    ("CC-0.8.0", head(MBR), 256 << 20, "wants a bare file system"),
    ("4.1", head(MBR | {454: b"\x01\0\0\0"}), 256 << 20, "its partition starts at byte 512"),
    ("4.1", head(MBR), 100 << 20, "no multiple of 128 MiB"), ("4.1", head({0: b"QFI\xfb"}), 256 << 20, "/i is qcow2"),
    ("4.1", head({0: b"\x1f\x8b"}), 256 << 20, "/i is an initrd"),
])
def test_images_that_a_release_cannot_boot(release: str, data: bytes, size: int, message: str) -> None:
    host = image_host(data, size)
    told = "\n".join(lines(survey(host, body(kata={"version": release, "image": "/i"})).check_host()))
    assert message in told


def test_which_file_each_reads_and_where_katas_tool_would_look() -> None:
    host = Recorded.load("epyc-snp")
    readings = {item.name: item for item in read_which(host, read_target(host).kata)}
    handler = readings["handler kata-qemu-snp"]
    assert handler.config.path == "/opt/kata/share/defaults/kata-containers/configuration-qemu-snp.toml"
    assert handler.config.drop_ins
    assert handler.differs
    assert handler.tool == readings["io.containerd.kata.v2"].config.path
    assert not readings["io.containerd.kata.v2"].differs
