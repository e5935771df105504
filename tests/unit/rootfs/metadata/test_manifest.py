"""Manifests, and images checked against them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.recorded import Recorded
from tests.unit.rootfs.make import MANIFEST, kata_dax
from vmtool.debian.tools import Tools
from vmtool.errors import Refused
from vmtool.rootfs.build.workers.write_headers import write_headers
from vmtool.rootfs.format.digest import content_digest, sha256
from vmtool.rootfs.format.image_file import MIB, read_image
from vmtool.rootfs.format.layout import fit
from vmtool.rootfs.inspect.verify import ExpectedImage, verify
from vmtool.rootfs.metadata.manifest import Manifest, VerityPart, manifest_text, read_manifest

SIZE = 256 * MIB


@pytest.fixture
def sound(tmp_path: Path) -> tuple[Path, Manifest]:
    path = kata_dax(tmp_path / "i", verity=True)
    made = write_headers(path, fit("kata-dax", SIZE, verity=True), "aabb")
    assert made
    part = VerityPart(root_hash=made.root_hash, salt="aabb", data_blocks=made.data_blocks)
    return path, MANIFEST.model_copy(update={"size": SIZE, "sha256": sha256(path), "content": content_digest(path),
                                             "verity": part})


def levels(path: Path, expected: ExpectedImage) -> dict[str, str]:
    host = Recorded({"outputs": {f"e2fsck -fn '{path}?offset=3145728'": {"status": 0}}})
    return {each.id: each.level for each in verify(host, Tools(None), read_image(path), expected)}


def test_the_image_of_its_manifest_holds_every_claim(sound: tuple[Path, Manifest]) -> None:
    path, manifest = sound
    assert levels(path, ExpectedImage(manifest)) == {
        "image.sound": "ok", "image.layout": "ok", "image.sha256": "ok", "filesystem.clean": "ok", "verity.root": "ok"}
    assert levels(path, ExpectedImage(manifest.model_copy(update={"sha256": None})))["image.sha256"] == "ok"


@pytest.mark.parametrize(("place", "failing"), [
    (100 * MIB, {"image.sha256", "verity.root"}), (SIZE - 2 * MIB, {"image.sha256", "verity.root"}),
    (2 * MIB + 500, {"image.sha256"})], ids=["data", "hashes", "label"])
def test_one_changed_byte_is_seen(sound: tuple[Path, Manifest], place: int, failing: set[str]) -> None:
    path, manifest = sound
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)
        file.seek(place)
        file.write(bytes([byte[0] ^ 1]))
    found = levels(path, ExpectedImage(manifest))
    assert {id for id, level in found.items() if level == "fail"} == failing


def test_a_root_hash_from_elsewhere_counts_more(sound: tuple[Path, Manifest]) -> None:
    path, manifest = sound
    assert levels(path, ExpectedImage(manifest, "0" * 64))["verity.root"] == "fail"
    assert levels(path, ExpectedImage(None, manifest.verity.root_hash if manifest.verity else "", "aabb")) == {
        "image.sound": "ok", "image.sha256": "not-checked", "filesystem.clean": "ok", "verity.root": "ok"}


def test_a_file_system_that_cannot_be_checked_is_not_clean(sound: tuple[Path, Manifest]) -> None:
    path, manifest = sound
    expected = ExpectedImage(manifest)
    found = {each.id: each.level for each in verify(Recorded({}), Tools(None), read_image(path), expected)}
    assert found["filesystem.clean"] == "not-checked"


def test_manifests_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(manifest_text(MANIFEST))
    assert read_manifest(path) == MANIFEST


@pytest.mark.parametrize("text", ["", "{}", "[]", "\0", '{"schema": "vmtool/rootfs/v2"}', "x" * (2 << 20)])
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "m"
    path.write_text(text)
    with pytest.raises(Refused):
        read_manifest(path)
