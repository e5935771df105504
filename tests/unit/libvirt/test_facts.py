"""What a launch by libvirt finds of its guest image, kernel, emulator and tools, and what it says of their absence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.launch.cases import MODEL
from tests.unit.libvirt.cases import host, spoken, wish
from tests.unit.rootfs.make import image, kata_dax, superblock
from vmtool.cache import Cache
from vmtool.debian.tools import tools_dir
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.libvirt.facts import DomainFacts, read_domain
from vmtool.rootfs.format.image_file import MIB, Extent, manifest_path
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.metadata.manifest import Manifest, Promises, manifest_text

STATIC = "\tnot a dynamic executable"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty one."""
    monkeypatch.setenv("VMTOOL_CACHE", str(tmp_path / "cache"))
    return Cache.at()


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A bare image with its kernel."""
    path = tmp_path / "rootfs.img"
    path.write_bytes(superblock(64 * MIB))
    with path.open("r+b") as file:
        file.truncate(64 * MIB)
    path.with_name("rootfs.img.vmlinuz").touch()
    return path


def look(guest: Path, ldd: str = STATIC, which: dict[str, str] | None = None, exists: tuple[str, ...] = (),
         **libvirt: Any) -> DomainFacts:
    """The facts of a host on which the image's own files, busybox and debugfs are."""
    there = [str(path) for path in (guest.with_name(f"{guest.name}.vmlinuz"), manifest_path(guest)) if path.exists()]
    programs = {"debugfs": "/usr/sbin/debugfs"} if which is None else which
    reader = Recorded({"exists": [*there, *exists, "/bin/busybox"], "which": programs,
                       "outputs": {"ldd /bin/busybox": {"status": 1, "err": ldd}}})
    spec = wish(libvirt={"image": guest} | libvirt)
    return read_domain(reader, spec, MODEL, host().cpu, host().kvm, host().hypervisor)


def with_manifest(guest: Path, architecture: str = "amd64", target: str = "kata-containers.target") -> Path:
    manifest = Manifest.model_validate({
        "name": "x", "recipe": "0" * 64, "architecture": architecture, "layout": "bare", "filesystem": "ext4",
        "size": 64 * MIB, "content": "0" * 64, "promises": Promises(target=target)})
    manifest_path(guest).write_text(manifest_text(manifest))
    return guest


def told(facts: DomainFacts) -> list[tuple[type[VmtoolError], str]]:
    return spoken(facts.findings)


def test_all_is_there(guest: Path) -> None:
    facts = look(guest)
    assert told(facts) == []
    found = facts.known()
    assert (found.path, found.rootfs, found.partition) == (guest, Extent(0, 64 * MIB, "ext4"), "")
    assert (found.target, found.kernel) == ("multi-user.target", guest.with_name("rootfs.img.vmlinuz"))
    assert (facts.architecture, facts.emulator, facts.accelerated) == ("x86_64", "/usr/bin/qemu-system-x86_64", True)
    assert (facts.libvirt, facts.busybox, facts.model_size) == ("12.8.0", Path("/bin/busybox"), MODEL.size)


def test_katas_layout_has_its_root_in_the_first_partition(tmp_path: Path) -> None:
    path = kata_dax(tmp_path / "kata.img")
    path.with_name("kata.img.vmlinuz").touch()
    found = look(path).known()
    assert (found.partition, found.rootfs.start) == ("1", fit("kata-dax", 256 * MIB, verity=False).start)


def test_the_manifest_tells_the_target_and_the_architecture(guest: Path) -> None:
    facts = look(with_manifest(guest))
    assert facts.known().target == "kata-containers.target"
    assert facts.accelerated
    foreign = look(with_manifest(guest, "arm64", ""), which={"debugfs": "/d", "qemu-system-aarch64": "/q/arm"})
    assert (foreign.architecture, foreign.emulator, foreign.accelerated) == ("aarch64", "/q/arm", False)
    assert foreign.known().target == "multi-user.target"
    [(kind, problem)] = told(foreign)
    assert kind is NotReady, "the host's own busybox is of another architecture"
    assert "no static busybox for aarch64" in problem


def test_a_foreign_image_without_its_emulator(guest: Path) -> None:
    facts = look(with_manifest(guest, "arm64"))
    assert facts.emulator == ""
    assert (NotReady, "qemu-system-aarch64 is not installed, which runs the guest") in told(facts)


def test_unpacked_tools_go_before_the_hosts_own(guest: Path, cache: Cache) -> None:
    from vmtool.rootfs.boot.plan import BUSYBOX

    own = tools_dir(cache, BUSYBOX, "amd64") / "usr/bin/busybox"
    assert look(guest, exists=(str(own),)).busybox == own
    assert look(guest, exists=(str(tools_dir(cache)),), which={}).tools.root == tools_dir(cache)


@pytest.mark.parametrize(("ldd", "which", "message"), [
    ("\tlibc.so.6 => /lib/libc.so.6", None, "no static busybox for x86_64"), ("", None, "no static busybox"),
    (STATIC, {}, "debugfs is not installed"),
])
def test_a_host_that_lacks_a_tool_is_not_ready(guest: Path, ldd: str, which: dict[str, str] | None,
                                               message: str) -> None:
    [(kind, problem)] = told(look(guest, ldd, which))
    assert kind is NotReady
    assert message in problem


def test_what_the_spec_names_and_is_not_there_is_refused(guest: Path, tmp_path: Path) -> None:
    assert [text.split(": ", 1)[1] for _, text in told(look(guest, image=None))] == [
        "name a guest image (vmtool rootfs build)"]
    facts = look(guest, image=tmp_path / "absent", firmware=tmp_path / "OVMF.fd", kernel=tmp_path / "kernel",
                 device_tree=tmp_path / "guest.dtb")
    assert facts.image is None
    assert {kind for kind, _ in told(facts)} == {Refused}
    assert "OVMF.fd: no such file" in told(facts)[1][1]
    assert "guest.dtb: no such file" in told(facts)[2][1]
    with pytest.raises(Refused, match="no guest image to boot") as error:
        facts.known()
    assert len(error.value.details) == 3
    [(_, problem)] = told(look(guest, kernel=tmp_path / "kernel"))
    assert problem.startswith(f"{tmp_path}/kernel: no such file")


def test_a_firmware_boot_needs_no_kernel(guest: Path) -> None:
    guest.with_name("rootfs.img.vmlinuz").unlink()
    assert len(told(look(guest))) == 1
    assert told(look(guest, boot="firmware", firmware="/ovmf", exists=("/ovmf",))) == []


@pytest.mark.parametrize(("content", "message"), [
    (b"QFI\xfb" + b"\0" * 4096, "qcow2"), (b"", "the file is empty"), (b"x" * 8192, "not recognised"),
    (superblock(64 * MIB), "truncated"),
])
def test_what_is_no_image_is_refused(guest: Path, content: bytes, message: str) -> None:
    guest.write_bytes(content)
    facts = look(guest)
    assert facts.image is None
    [(kind, problem)] = told(facts)
    assert kind is Refused
    assert problem.startswith("spec.runtime.libvirt.image: ")
    assert message in problem


def test_a_manifest_that_is_none_is_refused(guest: Path) -> None:
    manifest_path(guest).write_text("{}")
    [(kind, problem)] = told(look(guest))
    assert kind is Refused
    assert "not a manifest of an image" in problem


def test_where_kvm_runs_no_guests_it_is_emulated(guest: Path) -> None:
    reader = Recorded({"exists": [str(guest.with_name("rootfs.img.vmlinuz")), "/bin/busybox"],
                       "which": {"debugfs": "/d"}, "outputs": {"ldd /bin/busybox": {"err": STATIC}}})
    tame = host()
    unfit = replace(tame.kvm, verdict="opens-but-does-not-run")
    facts = read_domain(reader, wish(libvirt={"image": guest}), None, tame.cpu, unfit, tame.hypervisor)
    assert (facts.accelerated, facts.model_size) == (False, 0)


def test_an_erofs_image_is_one_too(tmp_path: Path) -> None:
    erofs = bytes(1024) + b"\xe2\xe1\xf5\xe0" + bytes(4096)
    path = image(tmp_path / "kata.img", fit("kata", 64 * MIB, verity=False), erofs)
    path.with_name("kata.img.vmlinuz").touch()
    assert look(path).known().rootfs.holds == "erofs"
