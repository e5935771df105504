"""What Kata and a GPU guest would miss, over a tree of Python's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.tree import FakeTree
from vmtool.rootfs.inspect.contents import check_contents, read_contents
from vmtool.rootfs.inspect.kata_requirements import check_hooks, check_kata, is_safe
from vmtool.rootfs.inspect.tree import Node, resolve

KERNEL = "6.1.0-44-amd64"
MODULE = f"/usr/lib/modules/{KERNEL}/updates/dkms/nvidia-current-open.ko"
GOOD = {
    "/sbin/init": Node("link", 0o777, 0, "/lib/systemd/systemd"),
    "/lib/systemd/systemd": Node("file", 0o755, 9),
    "/usr/bin/kata-agent": Node("file", 0o755, 9),
    "/etc/systemd/system/kata-agent.service": Node("file", 0o644, 9),
    "/usr/lib/systemd/system/kata-containers.target": Node("file", 0o644, 9),
    "/etc/systemd/system/tmp.mount": Node("link", 0o777, 0, "/usr/share/systemd/tmp.mount"),
    "/usr/share/systemd/tmp.mount": Node("file", 0o644, 9),
    "/etc/systemd/system/basic.target.wants/kata-containers.target": Node("link", 0o777, 0, "../x"),
    "/etc/machine-id": Node("file", 0o444, 0),
}


def test_a_whole_kata_image_has_no_failing_finding() -> None:
    assert {each.level for each in check_kata(FakeTree(dict(GOOD)))} == {"ok"}


@pytest.mark.parametrize(("changes", "id"), [
    ({"/sbin/init": None}, "kata.init"), ({"/lib/systemd/systemd": None}, "kata.init"),
    ({"/usr/bin/kata-agent": None}, "kata.agent"), ({"/usr/bin/kata-agent": Node("file", 0o644, 9)}, "kata.agent"),
    ({"/etc/systemd/system/kata-agent.service": None}, "kata.kata-agent"),
    ({"/etc/systemd/system/tmp.mount": Node("link", 0o777, 0, "/dev/null")}, "kata.tmp"),
    ({"/usr/lib/systemd/system/kata-containers.target": None}, "kata.kata-containers"),
    ({"/etc/systemd/system/basic.target.wants/kata-containers.target": None}, "kata.wanted"),
    ({"/etc/machine-id": Node("file", 0o444, 33)}, "kata.machine-id"), ({"/etc/machine-id": None}, "kata.machine-id"),
])
def test_each_thing_that_kata_needs_is_missed_by_name(changes: dict[str, Any], id: str) -> None:
    failed = [each for each in check_kata(FakeTree({**GOOD, **changes})) if each.level == "fail"]
    assert [each.id for each in failed] == [id]
    assert failed[0].hint


@pytest.mark.parametrize(("node", "level", "detail"), [
    (Node("file", 0o755, 9), "ok", "prestart/h.sh"), (Node("file", 0o644, 9), "fail", "mode 0644"),
    (Node("link", 0o777, 9, "/usr/bin/x"), "fail", "symbolic link to /usr/bin/x")])
def test_a_hook_must_be_a_regular_executable_file(node: Node, level: str, detail: str) -> None:
    found, = check_hooks(FakeTree({"/usr/share/oci/hooks/prestart/h.sh": node}))
    assert (found.level, detail in found.detail) == (level, True)


@pytest.mark.parametrize(("version", "safe"), [
    ("1.17.4-1", True), ("1.17.3-1", False), ("1.18.0", True), ("2.0.0-rc.1", True), ("1:1.17.8-1", True),
    ("1.17.4~rc.1-1", False), ("", False), ("latest", False), ("1.9.9", False)])
def test_toolkits_that_let_a_container_out_are_known(version: str, safe: bool) -> None:
    assert is_safe(version) == safe


def test_contents_are_read_and_judged() -> None:
    tree = FakeTree({**GOOD, "/usr/bin/nvidia-container-toolkit": Node("file", 0o755, 9)}, {
        "/etc/os-release": 'NAME="Debian"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        "/var/lib/dpkg/status": "Package: bash\nVersion: 5\n\nPackage: nvidia-container-toolkit\nStatus: x\n"
                                "Version: 1.17.3-1\n\nPackage: zsh\nVersion: 9\n",
        MODULE: "x\0version=535.261.03\0vermagic=6.1.0-43-amd64 SMP preempt\0"})
    found = read_contents(tree)
    assert (found.system, found.kernels, found.toolkit) == (
        "Debian GNU/Linux 12 (bookworm)", (KERNEL,), "1.17.3-1")
    assert (found.modules[0].version, found.modules[0].vermagic) == ("535.261.03", "6.1.0-43-amd64 SMP preempt")
    levels = {each.id: each for each in check_contents(tree, found)}
    assert levels["toolkit.version"].level == "fail"
    assert levels["driver.vermagic"].level == "fail"
    assert "for 6.1.0-43-amd64, and lies with 6.1.0-44-amd64" in levels["driver.vermagic"].detail


def test_a_compressed_module_is_not_checked_rather_than_good() -> None:
    path = f"{MODULE}.xz"
    tree = FakeTree({}, {path: "xz"})
    levels = {each.id: each.level for each in check_contents(tree, read_contents(tree))}
    assert levels["driver.vermagic"] == "not-checked"


def test_a_relative_link_is_followed_from_where_it_really_lies() -> None:
    tree = FakeTree({"/sbin": Node("link", 0o777, 0, "usr/sbin"), "/usr/lib/systemd/systemd": Node("file", 0o755, 9),
                     "/usr/sbin/init": Node("link", 0o777, 0, "../lib/systemd/systemd")})
    assert resolve(tree, "/sbin/init") == ("/usr/lib/systemd/systemd", Node("file", 0o755, 9))


def test_links_that_go_round_end() -> None:
    tree = FakeTree({"/a": Node("link", 0o777, 0, "b"), "/b": Node("link", 0o777, 0, "/a")})
    assert resolve(tree, "/a")[1] is None
