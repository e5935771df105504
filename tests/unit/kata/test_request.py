"""What is found on hosts and in images, and every problem at once."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import body, requested
from tests.unit.rootfs.make import superblock
from vmtool.findings import failing, lines
from vmtool.kata.check import check_request, layout_of
from vmtool.kata.facts import read_hooks, read_promises, read_target
from vmtool.kata.render import render
from vmtool.kata.request_facts import read_request
from vmtool.kata.which import read_which
from vmtool.rootfs.format.image_file import ImageFile, look_at_image
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, manifest_text

VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"
EXT4, EROFS = superblock(64 << 20), bytes(1024) + b"\xe2\xe1\xf5\xe0"


def mbr(start: int = 3 << 20, sectors: int = 8192, kind: int = 0x83) -> bytes:
    """The label of a disk with one partition."""
    entry = bytes(4) + bytes((kind, 0, 0, 0)) + struct.pack("<II", start >> 9, sectors)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(1536)


def image_host(data: bytes | None, size: int = 256 << 20, manifest: str | None = None,
               more: dict[str, Any] | None = None, partition: bytes = EXT4) -> Recorded:
    """A host with /i, an image that starts with these bytes, and has others where its partition starts."""
    pieces = {} if data is None else {"/i": {"size": size, "0": data.hex(), str(3 << 20): partition.hex()}}
    texts = {"/i.manifest.json": manifest} if manifest else {}
    return Recorded({"outputs": more or {}, "texts": texts, "pieces": pieces})


@pytest.mark.parametrize(("data", "layout"), [
    (EXT4, "a file system without a partition table"), (EROFS, "a file system without a partition table"),
    (b"XFSB", "a file system without a partition table"), (mbr(), "a partition table"), (mbr(kind=0xEE), "gpt"),
    (mbr(start=0), "unknown"), (b"QFI\xfb", "qcow2"), (b"\x1f\x8b", "an initrd"), (b"070701", "an initrd"),
    (bytes(2048), "unknown"), (b"ab", "unknown"), (b"", "not to be read"),
], ids=range(12))
def test_layouts(data: bytes, layout: str) -> None:
    found = look_at_image(image_host(data), "/i")
    assert found and layout_of(found) == layout


def test_an_image_and_its_manifest() -> None:
    manifest = f'{{"filesystem": "erofs", "verity": {{"kernel_verity_params": "{VERITY}"}}}}'
    assert read_promises(image_host(mbr(), manifest=manifest), "/i") == (VERITY, "erofs")
    for bad in ("{", "[]", '{"verity": {}}', '{"verity": 1}', manifest.replace("=ab", "=xyz"), "[" * 100_000,
                '{"filesystem": ["ext4"]}', '{"filesystem": "ntfs"}'):
        assert read_promises(image_host(mbr(), manifest=bad), "/i")[0] == ""


def test_the_manifest_that_rootfs_build_writes_is_understood() -> None:
    """Its own models make it, so that the two cannot drift apart."""
    part = VerityPart(root_hash="ab" * 32, salt="cd", data_blocks=9, kernel_verity_params=VERITY)
    manifest = Manifest(name="n", recipe="0" * 64, architecture="amd64", layout="kata", filesystem="ext4", size=1,
                        content="0" * 64, verity=part)
    host = image_host(mbr(), manifest=manifest_text(manifest))
    found = read_request(host, body("snp", kata={"version": "4.1", "image": "/i"})).request
    assert (found.verity, found.filesystem) == (VERITY, "ext4")
    older = read_request(host, body("snp", kata={"version": "3.15", "image": "/i"})).request
    assert older.verity == "", "that release knows no such key"
    assert look_at_image(image_host(None), "/i") is None


@pytest.mark.parametrize(("kind", "mode", "found"), [
    ("regular", "0755", True), ("regular", "0644", False), ("symlink", "0777", False), (None, "", False)])
def test_only_an_executable_regular_file_is_a_hook(kind: str | None, mode: str, found: bool) -> None:
    ask = "debugfs -R '{} \"{}\"' '/i?offset=3145728'"
    host = image_host(mbr(), more={
        ask.format("stat", "/"): {"out": "Type: directory Mode: 0755"},
        ask.format("ls -p", "/h/prestart"): {"out": "/16/040755/0/0/.//\n" + "/17/100755/0/0/h.sh/2/\n" * bool(kind)},
        ask.format("stat", "/h/prestart/h.sh"): {"out": f"Type: {kind} Mode: {mode}\nSize: 2"}})
    assert read_hooks(host, seen(host), "/h") is found
    assert read_hooks(host, seen(host), "/h; rm") is None


@pytest.mark.parametrize("host", [
    image_host(mbr()), image_host(b"QFI\xfb"), image_host(b"XFSB"),
    image_host(mbr(), more={"debugfs -R 'stat \"/\"' '/i?offset=3145728'": {"err": "stat: Filesystem not open"}}),
], ids=["no debugfs", "qcow2", "xfs", "not open"])
def test_whether_there_is_a_hook_is_not_known_of_what_cannot_be_looked_into(host: Recorded) -> None:
    assert read_hooks(host, seen(host), "/h") is None


def seen(host: Recorded) -> ImageFile:
    found = look_at_image(host, "/i")
    assert found
    return found


@pytest.mark.parametrize(("release", "tee", "gpus", "more", "message"), [
    ("3.15", "virtcca", 0, {}, "has no virtcca, and would boot an ordinary VM in silence; use CC-0.8.0, 3.15-virtcca"),
    ("4.1", "virtcca", 1, {}, "has no virtcca with GPUs"),
    ("CC-0.8.0", "snp", 1, {}, "CC-0.8.0 has no snp with GPUs; use 3.15, 3.30, 3.32, 4.1, 4.3"),
    ("3.15-virtcca", "tdx", 0, {}, "has no tdx"),
    ("4.1", "none", 0, {"kata": {"image": "/i", "initrd": "/j"}}, "image and initrd are both set"),
    ("4.1", "none", 1, {"kata": {"cold_plug_vfio": "no-port"}}, "spec.runtime.kata.cold_plug_vfio: 1 GPU(s) were "),
    ("CC-0.8.0", "none", 1, {"kata": {"root_ports": 4}}, "root_ports: Kata CC-0.8.0 knows no pcie_root_port"),
    ("3.15", "tdx", 0, {"kata": {"qemu": None}}, "spec.runtime.kata.qemu: configuration-qemu-tdx.toml of Kata 3.15"),
    ("3.28", "snp", 1, {"kata": {"vfio": "group"}}, "takes GPUs by iommufd only, not by group"),
    ("4.1", "none", 17, {}, "17 ports are needed, but Kata makes 16"),
    ("4.1", "none", 1, {"kata": {"root_ports": 17}}, "spec.runtime.kata.root_ports: pcie_root_port = 17 becomes 16"),
    ("CC-0.8.0", "virtcca", 15, {}, "virtCCA takes 14"),
    ("4.1", "snp", 1, {"kata": {"vfio": "group"}}, "takes GPUs by iommufd only, not by group"),
    ("3.15-virtcca", "virtcca", 1, {"kata": {"vfio": "iommufd"}}, "by group only, not by iommufd"),
    ("3.15", "none", 0, {"kata": {"verity": VERITY}}, "kata.verity: Kata 3.15 knows no kernel_verity_params"),
    ("4.1", "none", 0, {"kata": {"verity": VERITY, "initrd": "/j"}}, "no root disk to verify"),
    ("4.1", "none", 0, {"memory": "128Mi"}, "spec.resources.memory: default_memory = 128 (MiB) becomes 2048"),
    ("CC-0.8.0", "virtcca", 0, {"memory": "512Mi"}, "at least 1 GiB of secure memory"),
])
def test_what_is_wrong_with_a_request_anywhere(release: str, tee: str, gpus: int, more: dict[str, Any],
                                            message: str) -> None:
    assert message in "\n".join(lines(check_request(requested(release, tee, gpus, **more))))


def test_a_good_request_has_no_problem() -> None:
    assert not list(check_request(requested("3.15-virtcca", "virtcca", 14)))


def test_the_shims_version_and_files_decide() -> None:
    found = read_request(Recorded.load("kunpeng-virtcca"), body("virtcca", 1))
    assert (found.request.release.name, found.request.arch, found.request.vfio) == ("3.15-virtcca", "aarch64", "group")
    assert not found.check_request()
    snp = read_request(Recorded.load("epyc-snp"), body("snp", 1))
    assert (snp.request.release.name, snp.request.vfio) == ("3.30", "iommufd")
    assert read_request(Recorded.load("debian12-pvm"), body("virtcca")).request.release.name == "3.15-virtcca"


def test_every_problem_of_the_host_at_once() -> None:
    host = Recorded.load("debian12-pvm", pieces={"/i": {"size": 100 << 20, "0": EXT4.hex()}}, outputs={
        "debugfs -R 'stat \"/\"' '/i?offset=0'": {"out": "Type: directory Mode: 0755"},
        "debugfs -R 'ls -p \"/usr/share/oci/hooks/prestart\"' '/i?offset=0'": {"err": "File not found by ext2_lookup"}},
        texts={"/k/config-6.12.1": "CONFIG_DM_VERITY=y\n"}, links={"/k/vmlinux.container": "vmlinux-6.12.1"})
    wish = body("none", 1, {"version": "4.1", "image": "/i", "kernel": "/k/vmlinux.container", "verity": VERITY,
                            "injection": "hook"}, memory="64Gi", cpus=64)
    told = "\n".join(lines(read_request(host, wish).check_host()))
    for part in ("65536 MiB, but this host has", "64, but this host has 2",
                 "/opt/kata/bin/qemu-system-x86_64 is not there",
                 "/i is a file system without a partition table, but Kata 4.1 boots /dev/vda1",
                 "/i has no executable file in /usr/share/oci/hooks/prestart", "without CONFIG_DM_INIT"):
        assert part in told


@pytest.mark.parametrize(("release", "data", "size", "message"), [
    ("CC-0.8.0", mbr(), 256 << 20, "needs a bare file system"),
    ("4.1", mbr(start=512), 256 << 20, "its partition starts at byte 512"),
    ("4.1", mbr(), 100 << 20, "no multiple of 128 MiB"), ("4.1", b"QFI\xfb", 256 << 20, "/i is qcow2"),
    ("4.1", b"\x1f\x8b", 256 << 20, "/i is an initrd"),
])
def test_images_that_a_release_cannot_boot(release: str, data: bytes, size: int, message: str) -> None:
    host = image_host(data, size)
    told = "\n".join(lines(read_request(host, body(kata={"version": release, "image": "/i"})).check_host()))
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


def shim_of(version: str, files: dict[str, str] | None = None) -> Recorded:
    """A host with a Go shim of this version, and configurations below /opt/kata."""
    shim, below = "/usr/local/bin/containerd-shim-kata-v2", "/opt/kata/share/defaults/kata-containers"
    return Recorded({
        "names": {"/usr/local/bin": ["containerd-shim-kata-v2"]}, "texts": {
            "/proc/sys/kernel/arch": "x86_64\n",
            **{f"{below}/configuration-{name}.toml": text for name, text in (files or {}).items()}},
        "outputs": {f"{shim} --version": {"out": 'Kata Containers containerd shim (Golang): id: '
                                                 f'"io.containerd.kata.v2", version: {version}, commit: 1'}}})


def test_a_shim_newer_than_every_row_is_rendered_from_its_own_file_with_what_nobody_knows_yet() -> None:
    known = render(requested("4.3", "snp", 1)).text
    text = known.replace("[hypervisor.qemu]\n", '[hypervisor.qemu]\nnew_plug = "root-port"\n') + (
        "[brand_new]\nx = 1\n[runtime.inner]\ny = [1]\n")
    found = read_request(shim_of("4.9.1", {"qemu-nvidia-gpu-snp": text}), body("snp", 1))
    assert not failing(found.check_request())
    made = render(found.request)
    assert made.base.installed
    assert {**made.values}["brand_new"] == {"x": 1}
    assert made.values["hypervisor.qemu"]["new_plug"] == "root-port"
    assert made.values["runtime.inner"] == {"y": [1]}
    assert "4.9.1 (nearest known: 4.3 (read, not run))" in made.text.splitlines()[0]


def test_a_shim_newer_than_every_row_without_its_file_is_refused() -> None:
    found = read_request(shim_of("4.9.1"), body("snp", 1))
    [message] = [line for line in lines(failing(found.check_request())) if "kata" in line.lower()]
    assert "Kata 4.9.1 is newer than every release that vmtool knows" in message
    assert "configuration-qemu-nvidia-gpu-snp.toml is not below /opt/kata" in message


@pytest.mark.parametrize(("version", "row", "title"), [
    ("3.31.0", "3.30", "3.31.0 (nearest known: 3.30)"),
    ("4.0.2", "3.32", "4.0.2 (nearest known: 3.32 (read, not run))"),
    ("4.2.0", "4.1", "4.2.0 (nearest known: 4.1)"), ("4.3.2", "4.3", "4.3 (read, not run)"),
    ("3.29.0", "3.15", "3.29.0 (nearest known: 3.15)"),
])
def test_a_shim_between_two_rows_takes_the_nearest_below_and_says_so(version: str, row: str, title: str) -> None:
    found = read_request(shim_of(version), body("snp", 1))
    assert found.request.release.name == row
    assert f"Kata Containers {title}, TEE snp" in render(found.request).text.splitlines()[0]
    filesystem = render(found.request).values["hypervisor.qemu"]["rootfs_type"]
    assert filesystem == ("erofs" if version >= "3.31" else "ext4")
