"""An RPM guest out of a repository that is made here: nothing is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.integration.machine import Vmtool
from vmtool.rootfs.add.workers.ext4_to_tar import Ext4, convert

SPEC = """Name: {name}
Version: 1
Release: 1
Summary: for a test
License: MIT
BuildArch: noarch
AutoReqProv: no
{more}
%description
For a test.
%install
{install}
%files
{files}
"""
BASE = """mkdir -p %{buildroot}/etc %{buildroot}/usr/lib/systemd %{buildroot}/usr/sbin %{buildroot}/usr/bin
ln -s usr/sbin %{buildroot}/sbin
printf 'PRETTY_NAME="openEuler 24.03 (test)"\\n' > %{buildroot}/etc/os-release
echo 'root:x:0:0:root:/root:/bin/sh' > %{buildroot}/etc/passwd
echo 'root:x:0:' > %{buildroot}/etc/group
echo 'root:*:1::::::' > %{buildroot}/etc/shadow
printf '#!/bin/sh\\n' > %{buildroot}/usr/lib/systemd/systemd
chmod 755 %{buildroot}/usr/lib/systemd/systemd
ln -s ../lib/systemd/systemd %{buildroot}/usr/sbin/init"""
BASE_FILES = "/sbin\n/etc/*\n/usr/lib/systemd/systemd\n/usr/sbin/init\n%dir /usr/bin"
TOOL = "mkdir -p %{buildroot}/usr/bin\ntouch %{buildroot}/usr/bin/guest-tool"


@pytest.fixture(autouse=True)
def possible() -> None:
    if os.geteuid():
        pytest.skip("needs root: dnf installs into a tree")
    if missing := [name for name in ("dnf", "rpm", "rpmbuild", "createrepo_c") if not shutil.which(name)]:
        pytest.skip(f"needs {', '.join(missing)}: scripts/setup --test")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two packages, one of which needs the other."""
    top = tmp_path_factory.mktemp("rpms")
    for name, more, install, files in (("guest-base", "", BASE, BASE_FILES),
                                       ("guest-tool", "Requires: guest-base", TOOL, "/usr/bin/guest-tool")):
        spec = top / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, more=more, install=install, files=files))
        subprocess.run(["rpmbuild", "-bb", "-D", f"_topdir {top}", "-D", "_build_id_links none",
                        "-D", "use_source_date_epoch_as_buildtime 1", "-D", "_buildhost test", spec],
                       check=True, capture_output=True, env=os.environ | {"SOURCE_DATE_EPOCH": "1750000000"})
    subprocess.run(["createrepo_c", "-q", top / "RPMS"], check=True)
    return top / "RPMS"


@pytest.fixture
def tool(memory: Path) -> Iterator[Vmtool]:
    yield Vmtool(memory / "state")
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if "rootfs/scratch" in line]


def recipe(directory: Path, repository: Path, **changes: object) -> Path:
    source = {"name": "local", "source": f"file://{repository}", "unsigned": True}
    value = {"kind": "GuestImage", "name": "rootfs-rpm-test", "rpm": {"release": "24.03", "repositories": [source]},
             "packages": ["guest-tool"], "layout": "bare", "size": "64Mi", **changes}
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def test_an_rpm_image_is_built_twice_alike(tool: Vmtool, repository: Path, tmp_path: Path) -> None:
    path, images = recipe(tmp_path, repository), [tmp_path / "one.img", tmp_path / "two.img"]
    for image in images:
        tool("rootfs", "build", path, "-o", image, "--no-cache", timeout=600)
    assert subprocess.run(["cmp", *images]).returncode == 0
    assert "\u2717" not in tool("rootfs", "verify", images[0]).out
    found = tool("rootfs", "inspect", images[0], "--json").json
    assert found["contents"]["system"] == "openEuler 24.03 (test)"
    levels = {each["id"]: each["level"] for each in found["findings"]}
    assert levels["kata.init"] == levels["kata.machine-id"] == "ok"
    lock = images[0].with_name("one.img.lock.json").read_text()
    assert '"guest-base"' in lock and '"guest-tool"' in lock
    convert(Ext4(images[0], 0), tmp_path / "x.tar")
    names = subprocess.run(["tar", "--list", f"--file={tmp_path / 'x.tar'}"], capture_output=True, text=True).stdout
    assert "var/lib/rpm/" in names
    # Neither a path nor a home of the build host's.
    assert "cache/" not in names.replace("var/cache/", "") and "rpmdb/" not in names


def test_a_kernel_that_comes_as_files_is_taken(tool: Vmtool, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "Image").write_text("kernel")
    (tmp_path / "6.6.0-1.aarch64" / "kernel").mkdir(parents=True)
    (tmp_path / "6.6.0-1.aarch64" / "kernel" / "x.ko").write_text("x")
    path = recipe(tmp_path, repository, kernel={"image": "Image", "modules": "6.6.0-1.aarch64"})
    tool("rootfs", "build", path, "-o", tmp_path / "i.img", timeout=600)
    assert (tmp_path / "i.img.vmlinuz").read_text() == "kernel"
    assert tool("rootfs", "inspect", tmp_path / "i.img", "--json").json["contents"]["kernels"] == ["6.6.0-1.aarch64"]


def test_an_unknown_package_is_named(tool: Vmtool, repository: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, repository, packages=["no-such-package"])
    failed = tool("rootfs", "build", path, "-o", tmp_path / "i.img", status=1, timeout=600)
    assert "no-such-package" in failed.err
    assert not (tmp_path / "i.img").exists()


def test_unsigned_packages_are_refused_where_keys_are_given(tool: Vmtool, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("none")
    source = {"name": "local", "source": f"file://{repository}", "keys": "key"}
    path = recipe(tmp_path, repository, rpm={"release": "24.03", "repositories": [source]})
    failed = tool("rootfs", "build", path, "-o", tmp_path / "i.img", status=1, timeout=600)
    assert "key" in failed.err.lower() or "signed" in failed.err
    assert not (tmp_path / "i.img").exists()


def test_a_package_of_the_recipes_repositories_is_added_alike_each_time(tool: Vmtool, repository: Path,
                                                                        tmp_path: Path) -> None:
    path, image = recipe(tmp_path, repository, packages=["guest-base"]), tmp_path / "i.img"
    tool("rootfs", "build", path, "-o", image, timeout=600)
    copies = [tmp_path / "one.img", tmp_path / "two.img"]
    for copy in copies:
        for paper in image.parent.glob("i.img*"):
            shutil.copy(paper, copy.with_name(paper.name.replace("i.img", copy.name)))
        tool("rootfs", "add", "package", copy, "guest-tool", "--recipe", path, timeout=600)
    assert subprocess.run(["cmp", *copies]).returncode == 0
    assert "\u2717" not in tool("rootfs", "verify", copies[0]).out
    lock = copies[0].with_name("one.img.lock.json").read_text()
    assert '"guest-base"' in lock and '"guest-tool"' in lock
    refused = tool("rootfs", "add", "package", image, "guest-tool", status=2, timeout=600)
    assert "--recipe RECIPE" in refused.err
