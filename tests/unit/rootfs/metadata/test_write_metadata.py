"""The papers of an image that got something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from tests.unit.rootfs.make import manifest
from vmtool.errors import Refused
from vmtool.rootfs.metadata.lock_file import read_lock
from vmtool.rootfs.metadata.manifest import manifest_text, read_manifest
from vmtool.rootfs.metadata.packages import Package, lock_text
from vmtool.rootfs.metadata.workers.update_metadata import Order, run

ONE, OTHER = "1" * 64, "2" * 64
LISTING = "Package: curl\nVersion: 7.88\nArchitecture: amd64\n\nPackage: {name}\nVersion: {version}\n" \
          f"Architecture: amd64\nSHA256: {OTHER}\n"


def changed(directory: Path, *, kernel: str = "6.1", name: str = "jq", version: str = "1.6", **change: Any) -> Order:
    """The order of an addition, with what it left in its directory."""
    lock = directory / "old.lock.json"
    lock.write_text(lock_text("r", [Package("curl", "7.88", "amd64", ONE)], {}))
    old = manifest(kernel="6.1", added=["file /x"], promises={"hook": "/h/prestart/n.sh"})
    (directory / "old.manifest.json").write_text(manifest_text(old))
    (directory / "layer.json").write_text(json.dumps({"kernel": kernel}))
    (directory / "packages.txt").write_text(LISTING.format(name=name, version=version))
    (directory / "i.img").write_bytes(bytes(8192))
    given: dict[str, Any] = {"added": ("package jq",), "lock": lock} | change
    return Order(directory, directory / "i.img", directory / "old.manifest.json", **given)


def test_what_was_added_is_in_every_paper_and_old_hashes_stay(tmp_path: Path) -> None:
    run(changed(tmp_path), FakeHost())
    found, (packages, _) = read_manifest(tmp_path / "manifest.json"), read_lock(tmp_path / "lock.json")
    assert (found.added, found.size, found.verity) == (("file /x", "package jq"), 8192, None)
    assert found.promises.hook == "/h/prestart/n.sh"
    assert {each.name: each.sha256 for each in packages} == {"curl": ONE, "jq": OTHER}
    assert OTHER in (tmp_path / "spdx.json").read_text()


def test_a_driver_is_promised_and_told(tmp_path: Path) -> None:
    made = tmp_path / "driver.json"
    made.write_text(json.dumps({"version": "535.1", "kernel": "6.1", "modules": ["nvidia"]}))
    order = changed(tmp_path, driver=made, modules=("nvidia",), added=("driver n",))
    (tmp_path / "packages.txt").unlink()
    run(order, FakeHost())
    found, (packages, driver) = read_manifest(tmp_path / "manifest.json"), read_lock(tmp_path / "lock.json")
    assert (found.driver, found.promises.modules, driver["version"]) == ("535.1", ("nvidia",), "535.1")
    assert [each.name for each in packages] == ["curl"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"kernel": "6.2"}, "bring the kernel 6.2, and the image is for 6.1"),
    ({"name": "nvidia-container-toolkit", "version": "1.17.3-1"}, "1.17.3-1 is refused")])
def test_an_image_that_must_not_be_given_out_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        run(changed(tmp_path, **changes), FakeHost())
    assert not (tmp_path / "manifest.json").exists()
