"""Image archives: both forms are understood, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmtool.errors import Refused
from vmtool.image import archive as a

DIGEST = "sha256:" + "a" * 64


def tar(path: Path, files: dict[str, bytes | str | Any]) -> Path:
    with tarfile.open(path, "w") as made:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return path


def oci(path: Path, *names: str, size: int = 2, **more: Any) -> Path:
    manifests = [{"digest": DIGEST, "size": size, "annotations": {"org.opencontainers.image.ref.name": name} if name
                  else {}} for name in names]
    blob = f"blobs/sha256/{'a' * 64}"
    return tar(path, {"oci-layout": {}, "index.json": {"manifests": manifests}, blob: b"{}", **more})


def test_an_oci_archive(tmp_path: Path) -> None:
    names = ("docker.io/vmtool/x:1", "latest", "")
    assert a.read_archive(oci(tmp_path / "a", *names)) == a.Contents(
        "oci", names[:1], names[1:], dict.fromkeys(names, DIGEST))


SHORT = {"vllm:1": "docker.io/library/vllm:1", "acme/llm:2": "docker.io/acme/llm:2", "ghcr.io/a/b:3": "ghcr.io/a/b:3",
         "Harbor.Example.com:5000/llm/vllm:1": "Harbor.Example.com:5000/llm/vllm:1", "[::1]:5000/a:1": "[::1]:5000/a:1"}


def test_a_docker_archive_and_its_short_names(tmp_path: Path) -> None:
    image = {"Config": "c.json", "RepoTags": list(SHORT), "Layers": ["l/layer.tar"]}
    images = [image, {**image, "RepoTags": None}]
    path = tar(tmp_path / "a", {"manifest.json": images, "c.json": {}, "l/layer.tar": b""})
    assert a.read_archive(path) == a.Contents(
        "docker", tuple(SHORT.values()), ("",))


@pytest.mark.parametrize(("files", "why"), [
    ({"readme": b"x"}, "not of an image"),
    ({"oci-layout": {}, "index.json": b"{not json"}, "damaged"),
    ({"oci-layout": {}, "index.json": []}, "damaged"),
    ({"oci-layout": {}, "index.json": {"manifests": []}}, "no image in it"),
    ({"oci-layout": {}, "index.json": {"manifests": [{"digest": DIGEST, "size": 1}]}}, "damaged"),
    ({"manifest.json": []}, "no image in it"),
    ({"manifest.json": [{"Config": "c", "Layers": ["l"]}], "c": {}}, "l is missing"),
    ({"manifest.json": {"a": 1}}, "damaged"),
    ({"manifest.json": b"[" * 5000}, "damaged"),
    # containerd is written in Go, which takes the last of these keys.
    ({"oci-layout": {}, "index.json": b'{"manifests": [], "Manifests": []}'}, "a key occurs twice"),
    ({"oci-layout": {}, "index.json": '{"manifests": [], "manife\u017fts": []}'.encode()}, "a key occurs twice"),
    ({"manifest.json": b'[{"RepoTags": ["a/b:1"], "RepoTags": ["c/d:1"]}]'}, "a key occurs twice"),
    ({"manifest.json": b" " * (a.MAX_JSON + 1)}, "at most 4 MiB"),
])
def test_other_tar_files_are_refused(tmp_path: Path, files: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        a.read_archive(tar(tmp_path / "a", files))


def test_a_manifest_that_was_cut_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="has 2 bytes instead of 99"):
        a.read_archive(oci(tmp_path / "a", "a/b:1", size=99))


@pytest.mark.parametrize("name", ["../../x", "docker.io/../x:1", "docker.io/a//b:1", "docker.io/EVIL/A:1", "-a/b:1",
                                  "docker.io/" + "a" * 5000 + ":1", "docker.io/a/b:1\n", "docker.io/a\x1b/b:1"])
def test_what_is_no_name_is_none(tmp_path: Path, name: str) -> None:
    """Such a name ended in an error of containerd's filters, or in a table of its width."""
    assert a.read_archive(oci(tmp_path / "a", name)).references == ()
    docker: dict[str, Any] = {"manifest.json": [{"Config": "c", "RepoTags": ["a/b:1", name], "Layers": []}], "c": {}}
    with pytest.raises(Refused) as refused:
        a.read_archive(tar(tmp_path / "b", docker))
    assert f"({name!r} is no name of an image)" in str(refused.value)


def test_a_name_with_another_digest_than_the_images_is_refused(tmp_path: Path) -> None:
    assert a.read_archive(oci(tmp_path / "a", f"docker.io/a/b@{DIGEST}")).references
    with pytest.raises(Refused, match="another digest than the image"):
        a.read_archive(oci(tmp_path / "b", "docker.io/a/b@sha256:" + "b" * 64))


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    other = "sha256:" + "b" * 64
    manifests = [{"digest": digest, "size": 2, "annotations": {"io.containerd.image.name": "docker.io/a/b:1"}}
                 for digest in (DIGEST, other)]
    blobs = {f"blobs/{digest.replace(':', '/')}": b"{}" for digest in (DIGEST, other)}
    with pytest.raises(Refused, match="two images are named"):
        a.read_archive(tar(tmp_path / "a", {"oci-layout": {}, "index.json": {"manifests": manifests}, **blobs}))


def test_a_tar_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(a, "MAX_MEMBERS", 3)
    with pytest.raises(Refused, match="more than 3 files"):
        a.read_archive(oci(tmp_path / "a", "a/b:1", extra=b""))


def test_what_is_no_tar_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no such file"):
        a.read_archive(tmp_path / "absent")
    with pytest.raises(Refused, match="not a regular file"):
        a.read_archive(tmp_path)
    (tmp_path / "z").write_bytes(gzip.compress(b"x"))
    with pytest.raises(Refused, match="compressed") as refused:
        a.read_archive(tmp_path / "z")
    assert refused.value.hint == f"unpack it first: gunzip {tmp_path / 'z'}"
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(Refused, match="no image archive"):
        a.read_archive(tmp_path / "empty")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_refused_or_read_but_never_an_accident(tmp_path: Path, data: st.DataObject) -> None:
    good = oci(tmp_path / "good", "docker.io/a/b:1").read_bytes()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=40)) + good[at + data.draw(st.integers(0, 600)):]
    (tmp_path / "bad").write_bytes(bad)
    try:
        assert isinstance(a.read_archive(tmp_path / "bad"), a.Contents)
    except Refused as refused:
        assert str(tmp_path / "bad") in refused.message
