"""Images of other tools' making, read and changed by libguestfs in a guest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.kills import killed, machine_states, recorded
from tests.integration.machine import Vmtool, command, output
from vmtool.host.local import LocalHost, LocalMachine
from vmtool.isolation import private
from vmtool.rootfs.commands.foreign import read_appliance
from vmtool.rootfs.format.image_file import read_image

DISK = Path(__file__).with_name("foreigndisk.py")


@pytest.fixture(autouse=True)
def possible() -> None:
    if os.geteuid():
        pytest.skip("needs root: a mount namespace, where the host has no /lib/modules")
    if missing := [name for name in ("supermin", "qemu-img") if not LocalMachine().which(name)]:
        pytest.skip(f"needs {', '.join(missing)}: scripts/setup --test")


@pytest.fixture
def tool(memory: Path, tmp_path: Path) -> Iterator[Vmtool]:
    """vmtool on a state directory of the test's own; no QEMU, mount or file is left after it."""
    before = output("ls", "-d", "/lib/modules")
    yield Vmtool(memory / "state")
    assert output("ls", "-d", "/lib/modules") == before
    assert not [line for pid in os.listdir("/proc") if pid.isdigit() for line in [command(pid)]
                if str(tmp_path) in line and "pytest" not in line]
    assert not list(tmp_path.rglob("*.vmtool-*"))


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by libguestfs itself, in the same guest."""
    directory = tmp_path_factory.mktemp("disk")
    path, log = directory / "disk.qcow2", directory / "log"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
    appliance, tools, before = read_appliance(LocalMachine(), read_image(path))
    with log.open("a") as file:
        for action in (action for step in before for action in step.actions):
            action.do(LocalHost(file))
    env = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_CACHEDIR": str(appliance.cache), "TMPDIR": str(directory),
           "PYTHONPATH": str(DISK.parents[2])}
    env |= {} if appliance.kvm else {"LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    appliance.cache.mkdir(parents=True, exist_ok=True)
    subprocess.run([*private(root=True), sys.executable, DISK, str(appliance.kernel or "-"), path,
                    *tools.argv("depmod")], check=True, env=os.environ | env, timeout=600)
    return path


def test_a_qcow2_that_leads_to_a_file_of_the_hosts_is_refused(tool: Vmtool, tmp_path: Path) -> None:
    image = tmp_path / "b.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", image], check=True)
    for words in (("inspect", image), ("add", "hook", image)):
        assert "backing file" in tool("rootfs", *words, status=2).err


@pytest.mark.slow
def test_what_is_in_a_foreign_image_is_told(tool: Vmtool, disk: Path) -> None:
    before = disk.read_bytes()
    found = tool("rootfs", "inspect", disk, "--json", timeout=700).json
    assert (found["image"]["table"], found["image"]["root"]) == ("gpt", "/dev/vg/root")
    assert {each["device"]: each["holds"] for each in found["image"]["filesystems"]} == {
        "/dev/sda1": "ext4", "/dev/vg/root": "ext4"}
    assert (found["contents"]["system"], found["contents"]["kernels"]) == ("openEuler 24.03 (test)", ["6.6.0-1.x86_64"])
    levels = {each["id"]: each["level"] for each in found["findings"]}
    assert (levels["kata.agent"], levels["kata.machine-id"], levels["driver.vermagic"]) == ("fail", "ok", "ok")
    assert disk.read_bytes() == before


@pytest.mark.slow
def test_a_file_and_the_hook_get_into_a_foreign_image(tool: Vmtool, disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "i.qcow2"
    subprocess.run(["cp", disk, image], check=True)
    tool("rootfs", "add", "hook", image, timeout=700)
    assert "\u2713 hook nvidia-container-toolkit.sh" in tool("rootfs", "inspect", image, timeout=700).out
    before = image.read_bytes()
    failed = tool("rootfs", "add", "file", image, "/etc", image.with_name("i.qcow2"), status=2, timeout=700)
    assert "a directory of the image is there" in failed.err
    assert image.read_bytes() == before


@pytest.mark.slow
@pytest.mark.timing
def test_a_kill_while_the_guest_writes_leaves_the_image(tool: Vmtool, disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "i.qcow2"
    subprocess.run(["cp", disk, image], check=True)
    add, before = ("rootfs", "add", "hook", image), image.read_bytes()
    points = machine_states(recorded(tool, *add))
    assert len(points) > 6
    changed = []
    for point in (*points[:-1:2], points[-1]):
        subprocess.run(["cp", disk, image], check=True)
        assert killed(tool, point, *add), point
        tool("recover")
        assert not list(tmp_path.glob(".*.vmtool-*")), point
        changed.append(image.read_bytes() != before)
    assert changed == sorted(changed), "the old one until the new one has taken its place"
    assert set(changed) == {False, True}
