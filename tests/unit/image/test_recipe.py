"""recipe.yaml: read strictly, and the digest follows whatever the image depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.image.make import RECIPE, recipe, write_recipe
from vmtool.errors import Refused
from vmtool.image import recipe as r


@pytest.mark.parametrize("name", ["vllm-cpu", "vllm"])
def test_the_shipped_recipes_are_read(name: str) -> None:
    read = r.read_recipe(r.find_recipe(name))
    assert (read.name, read.reference, read.platform) == (name, f"docker.io/vmtool/{name}", "linux/amd64")
    assert bool(read.upstream) != bool(read.suite)


@pytest.mark.parametrize("name", ["vllm-cpu", "vllm"])
def test_what_a_containerfile_takes_of_vmtools_code_is_there(name: str) -> None:
    lines = (r.find_recipe(name) / "Containerfile").read_text().splitlines()
    sources = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]
               if word.partition("/")[0] == "serving"]
    assert sources
    for source in sources:
        assert (r.SERVING.parent / source).exists(), source
        copied = f"/usr/share/vmtool/{Path(source).name}"
        assert source == "serving" or any(f"python3 -W ignore {copied}" in line for line in lines), source


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    directory = write_recipe(tmp_path, "kind: Image\nname: Bad\nbase:\n  suite: Bookworm\n  packages: [ok, 'a b', 3]\n"
                                       "platform: x\npython: 3.11\nfoo: 1\n")
    (directory / "Containerfile").unlink()
    with pytest.raises(Refused) as refused:
        r.read_recipe(directory)
    told = "\n".join(refused.value.details)
    for line, text in ((1, "ContainerImage"), (2, "lower-case"), (4, "code name"), (5, "'a b' is not a valid"),
                       (5, "3 is not a valid"), (6, "linux/amd64"), (7, "in quotes"), (8, "unknown key")):
        place = f"recipe.yaml:{line}:"
        assert any(place in detail and text in detail for detail in refused.value.details), (text, told)
    assert f"{directory / 'Containerfile'}: missing" in told


@pytest.mark.parametrize("base", [
    "[]", "{suite: bookworm}", "{suite: bookworm, packages: []}", "{upstream: x/y, suite: bookworm, packages: [a]}",
    "{upstream: 'docker.io/x/y:latest'}", "{upstream: x}", "null",
])
def test_a_base_is_a_suite_with_packages_or_an_upstream_without_a_tag(tmp_path: Path, base: str) -> None:
    text = f"kind: ContainerImage\nname: a\nbase: {base}\nplatform: linux/amd64\n"
    with pytest.raises(Refused) as refused:
        r.read_recipe(write_recipe(tmp_path, text))
    assert any("must " in detail for detail in refused.value.details)


@pytest.mark.parametrize("indexes", ["[https://x.example]", "{torch: 'https://x.example'}", "{torch.lock: 5}",
                                     "{torch.lock: 'http://x.example'}", "{torch.lock: 'https://u:p@x.example'}",
                                     "{torch.lock: 'https://x.example/?a=b'}"])
def test_an_index_is_an_address_without_a_secret_for_a_lock(tmp_path: Path, indexes: str) -> None:
    text = RECIPE + f"indexes: {indexes}\n"
    with pytest.raises(Refused) as refused:
        r.read_recipe(write_recipe(tmp_path, text))
    assert any("must " in detail for detail in refused.value.details)


def test_a_recipe_with_python_needs_its_locks(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        r.read_recipe(write_recipe(tmp_path, RECIPE + "python: '3.11'\n"))
    assert [detail.rpartition("/")[2] for detail in refused.value.details] == [
        "requirements.lock: missing", "pip.lock: missing"]


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="no recipe") as refused:
        r.find_recipe(str(tmp_path))
    assert refused.value.hint == "vmtool image build vllm | vllm-cpu"
    assert r.find_recipe(str(write_recipe(tmp_path / "x"))) == tmp_path / "x"


def test_the_digest_follows_every_input(tmp_path: Path) -> None:
    directory = tmp_path / "r"
    shutil.copytree(recipe().directory, directory)
    first = recipe(directory=directory)
    digests = {r.input_digest(first)}
    assert r.input_digest(recipe()) in digests, "where the recipe lies does not matter"
    (directory / "README").write_text("not an input")
    assert r.input_digest(first) in digests
    for change in ({"suite": "trixie"}, {"packages": ("python3", "gcc")}, {"platform": "linux/arm64"}, {"name": "b"}):
        digests.add(r.input_digest(recipe(directory=directory, **change)))
    digests.add(r.input_digest(first, "sha256:" + "0" * 64))
    for name in ("Containerfile", "requirements.lock", "torch.lock", "pip.lock"):
        with (directory / name).open("a") as file:
            file.write("# changed\n")
        digests.add(r.input_digest(first))
    assert len(digests) == 10


def test_the_digest_follows_the_serving_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = r.input_digest(recipe())
    shutil.copytree(r.SERVING, tmp_path / "serving")
    monkeypatch.setattr(r, "SERVING", tmp_path / "serving")
    assert r.input_digest(recipe()) == before
    (tmp_path / "serving" / "front" / "front.py").write_text("")
    assert r.input_digest(recipe()) != before


def test_the_base_does_not_follow_the_serving_code_or_the_locks(tmp_path: Path) -> None:
    assert r.base_digest(recipe(directory=tmp_path, name="other")) == r.base_digest(recipe())
    assert r.base_digest(recipe(packages=("gcc",))) != r.base_digest(recipe())


def test_everything_in_the_locks_has_a_hash() -> None:
    for lock in recipe().locks:
        text = lock.read_text().replace("\\\n", " ")
        wanted = [line for line in text.splitlines() if line and not line.startswith(("#", "--"))]
        assert wanted
        assert all("==" in line and "--hash=sha256:" in line for line in wanted), lock
    names = {line.partition("==")[0] for lock in recipe().locks for line in lock.read_text().splitlines()}
    assert not names & {"triton", "torchvision", "torchaudio", "torchcodec", "vllm"}
    assert not any(name.startswith("nvidia") for name in names)


def test_the_space_that_a_build_takes_is_the_recipes_to_say(tmp_path: Path) -> None:
    plain = r.read_recipe(write_recipe(tmp_path / "plain"))
    large = r.read_recipe(write_recipe(tmp_path / "large", RECIPE + "space: 512Mi\n"))
    assert (plain.space, large.space) == (1 << 30, 512 << 20)
    assert r.input_digest(plain) == r.input_digest(large), "it is nothing that the image depends on"
    assert [r.read_recipe(r.find_recipe(name)).space >> 30 for name in ("vllm-cpu", "vllm")] == [8, 48]
    for space in ("8GB", "8", "many", "[1Gi]"):
        with pytest.raises(Refused) as refused:
            r.read_recipe(write_recipe(tmp_path / "wrong", RECIPE + f"space: {space}\n"))
        assert any("recipe.yaml:8:" in detail for detail in refused.value.details), (space, refused.value.details)
