"""The image of a launch, by digest: what its name points to, what vmtool put there, and what is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.launches import pinned
from tests.fakes.recorded import Recorded
from tests.unit.image.make import DIGEST
from vmtool.containerd.endpoint import Endpoint
from vmtool.errors import Refused
from vmtool.findings import failing
from vmtool.image.check import check_image, check_names, check_user
from vmtool.image.installed import LISTING, RECORD, ImportedImage, images_dir
from vmtool.image.pinned_image import PinnedImage, chain_of, read_image
from vmtool.paths import State
from vmtool.records import record_text

STATE = State(Path("/s"))
SYSTEM = Endpoint(Path("/run/containerd/containerd.sock"), private=False)
CTR = "ctr --address /run/containerd/containerd.sock --namespace vmtool"
NAME = "docker.io/vmtool/x:latest"
LAYERS = [f"sha256:{letter * 64}" for letter in "ab"]
BUILT = ImportedImage("x", (NAME,), DIGEST, str(SYSTEM.socket), False)


def blob(document: Any) -> tuple[str, str]:
    text = json.dumps(document)
    return f"sha256:{sha256(text.encode()).hexdigest()}", text


def image(user: str = "65532:65532", layers: Any = LAYERS) -> dict[str, str]:
    """Configuration, manifest and, last, an index, by digest."""
    config = blob({"config": {"User": user} if user else {}, "rootfs": {"diff_ids": layers}})
    manifest = blob({"config": {"digest": config[0]}})
    index = blob({"manifests": [{"digest": "sha256:" + "9" * 64, "platform": {"architecture": "mips"}},
                                {"digest": manifest[0], "platform": {"architecture": "amd64"}}]})
    return dict((config, manifest, index))


def host(blobs: dict[str, str], points: str = "", recorded: str = "", **more: Any) -> Recorded:
    """A containerd with an image under `NAME`, and what vmtool wrote down of it."""
    outputs = {f"{CTR} content get {digest}": {"out": text} for digest, text in blobs.items()}
    outputs[f"{CTR} images list"] = {"out": row(points or list(blobs)[-1])}
    directory = images_dir(STATE) / BUILT.name
    texts = {str(directory / RECORD): record_text(BUILT), str(directory / LISTING): row(recorded)} if recorded else {}
    return Recorded({"outputs": outputs | more, "texts": texts, "names": {str(images_dir(STATE)): ["x"]}})


def row(digest: str) -> str:
    return f"{NAME} application/x {digest} 1.5 MiB linux/amd64 -\n"


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmtool.image.pinned_image.platform.machine", lambda: "x86_64")


def found(blobs: dict[str, str], wanted: str = "vmtool/x", **more: Any) -> PinnedImage:
    return read_image(host(blobs, **more), STATE, SYSTEM, wanted)


def problems(image: PinnedImage) -> list[str]:
    return [finding.id for finding in failing([*check_image(image), *check_user(image)])]


def test_a_built_image_is_known_by_digest_layers_and_user() -> None:
    blobs = image()
    digest = list(blobs)[-1]
    seen = found(blobs, recorded=digest)
    assert seen == PinnedImage(NAME, digest, digest, "", f"built from the recipe x, input {DIGEST[:12]}",
                               chain_of(LAYERS), "65532:65532")
    assert problems(seen) == []


def test_the_chain_is_that_of_the_oci_image_specification() -> None:
    assert chain_of(LAYERS[:1]) == LAYERS[0]
    assert chain_of(LAYERS) == f"sha256:{sha256(' '.join(LAYERS).encode()).hexdigest()}"


def test_an_archive_that_took_the_place_of_a_built_image_is_not_started() -> None:
    """As `ctr images import` and `ctr images tag --force` leave it."""
    blobs = image()
    assert problems(found(blobs, recorded="sha256:" + "0" * 64)) == ["image.moved"]
    assert problems(found(blobs)) == [], "of one that vmtool has no record of there is nothing to compare"


@pytest.mark.parametrize("user", ["", "0", "root", "0:0", "vmtool", "65532:0", "1000"])
def test_an_image_whose_processes_would_not_be_the_unprivileged_users_is_refused(user: str) -> None:
    """A name may stand for any number: it is looked up in the image's own /etc/passwd."""
    assert problems(found(image(user))) == ["image.user"]


@pytest.mark.parametrize(("wanted", "expected"), [
    ("vmtool/x@{}", []), ("vmtool/x:latest@{}", []), ("vmtool/x@sha256:" + "0" * 64, ["image.digest"])])
def test_a_spec_may_name_the_digest(wanted: str, expected: list[str]) -> None:
    blobs = image()
    assert problems(found(blobs, wanted.format(list(blobs)[-1]))) == expected


def test_an_image_that_is_not_there() -> None:
    [finding] = check_image(read_image(Recorded({}), STATE, SYSTEM, "vmtool/x"))
    assert (finding.id, finding.fault) == ("image.absent", "host")
    assert finding.hint.startswith("vmtool image build x")


@pytest.mark.parametrize("layers", [[], ["sha256:short"], [1], None, {"a": 1}, "ab"])
def test_layers_that_are_none(layers: Any) -> None:
    assert problems(found(image(layers=layers))) == ["image.damaged"]


def test_content_that_is_not_what_its_digest_says() -> None:
    for number in range(3):
        blobs = image()
        digest = list(blobs)[number]
        blobs[digest] = blobs[digest].replace("65532", "0") + " "
        assert problems(found(blobs)) == ["image.damaged"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{}", '{"config": {"digest": 5}}', '{"manifests": []}'])
def test_documents_of_another_form_are_a_finding(text: str) -> None:
    digest = f"sha256:{sha256(text.encode()).hexdigest()}"
    assert problems(found({digest: text})) == ["image.damaged"]


def machines(*architectures: str | None, config: str = "", system: str = "") -> dict[str, str]:
    """An index whose images are for these machines, the last one being there; or, without any, an image's manifest."""
    made = blob({"config": {"User": "65532:65532"}, "rootfs": {"diff_ids": LAYERS}} | (
        {"architecture": config} if config else {}) | ({"os": system} if system else {}))
    manifest = blob({"config": {"digest": made[0]}})
    if not architectures:
        return dict((made, manifest))
    others = [{"digest": "sha256:" + "9" * 64, "platform": {"architecture": each}} for each in architectures[:-1]]
    last = {"digest": manifest[0]} | ({"platform": {"architecture": architectures[-1]}} if architectures[-1] else {})
    return dict((made, manifest, blob({"manifests": [*others, last]})))


@pytest.mark.parametrize("blobs", [
    machines("arm64"), machines("unknown", "arm64"), machines("unknown"), machines(config="arm64"),
    machines(None, config="riscv64"), machines("amd64", config="arm64"),
    machines(system="windows"),
], ids=["arm64", "attestation and arm64", "attestation", "arm64 alone", "riscv64 unsaid", "a lie", "windows"])
def test_an_image_for_another_machine_is_not_started(blobs: dict[str, str]) -> None:
    """The first of an index is none for this machine: it would end with "exec format error"."""
    [finding] = failing(check_image(found(blobs)))
    assert finding.id == "image.damaged" and "machine" in finding.detail


@pytest.mark.parametrize("blobs", [machines("unknown", "amd64"), machines(None), machines(config="amd64"),
                                   machines("arm64", None), machines(system="linux")],
                         ids=["attestation and amd64", "unsaid", "alone", "arm64 and unsaid", "linux"])
def test_an_image_for_this_machine_is_found(blobs: dict[str, str]) -> None:
    assert problems(found(blobs)) == []


def test_a_name_belongs_to_one_image() -> None:
    archive, foreign = Path("/a b.tar"), replace(BUILT, name="vmtool-x-latest", input="")
    with pytest.raises(Refused, match="that was built from the recipe x") as refused:
        check_names(foreign, {}, [BUILT], {}, archive)
    assert refused.value.hint == ("remove that first: vmtool image rm x, then: vmtool image import '/a b.tar'")
    with pytest.raises(Refused, match="that was imported"):
        check_names(BUILT, {}, [foreign], {})
    check_names(BUILT, {}, [BUILT], {})
    # The same archive again is none too many; another one under its name is.
    digests = {NAME: "sha256:" + DIGEST}
    check_names(foreign, digests, [foreign], digests, archive)
    with pytest.raises(Refused, match=NAME):
        check_names(foreign, digests, [foreign], {NAME: "sha256:" + "0" * 64}, archive)
    with pytest.raises(Refused, match=NAME):
        check_names(foreign, {}, [foreign], digests, archive)


def test_the_image_of_the_tests_is_as_it_must_be() -> None:
    assert problems(pinned("vmtool/x")) == []
