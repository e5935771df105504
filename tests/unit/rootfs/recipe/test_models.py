"""Recipes: the shipped ones are sound, the bad ones are refused with every mistake and its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.rootfs.recipes import recipe, write
from vmtool.errors import Refused
from vmtool.rendering import shipped
from vmtool.rootfs.recipe.input_facts import base_digest, driver_digest, image_digest, read_inputs
from vmtool.rootfs.recipe.layer import Overlay
from vmtool.rootfs.recipe.load import find_rootfs_recipe, read_rootfs_recipe
from vmtool.rootfs.recipe.models import Recipe
from vmtool.rootfs.recipe.overlay import make_overlay

SHIPPED = sorted(path.parent.name for path in shipped("images").glob("rootfs-*/recipe.yaml"))
TOOLKIT = {"package": "nvidia-container-toolkit"}


def overlay(of: Recipe) -> Overlay:
    return make_overlay(of, 7, read_inputs(of))


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "rootfs-openeuler-virtcca"])
def test_shipped_recipes_can_be_read(name: str) -> None:
    assert read_rootfs_recipe(find_rootfs_recipe(name)).name == name


def test_the_openeuler_recipe_lacks_only_what_cannot_be_shipped() -> None:
    with pytest.raises(Refused, match="files that the recipe names are missing") as refused:
        read_rootfs_recipe(find_rootfs_recipe("rootfs-openeuler-virtcca"))
    assert all(": no such file" in line for line in refused.value.details)


@pytest.mark.parametrize(("changes", "message"), [
    ({"pakages": []}, "did you mean 'packages'"), ({"kind": "Image"}, "'Image' is not one of GuestImage"),
    ({"name": "../x"}, "name: String should match"), ({"debian": None}, "takes either debian or rpm"),
    ({"arch": "riscv64"}, "not one of amd64, arm64"), ({"packages": ["a b"]}, "'a b' is not a valid package name"),
    ({"packages": ["--option"]}, "is not a valid package name"), ({"size": "12Q"}, "unknown unit"),
    ({"size": "300Mi"}, "multiple of 128Mi"), ({"layout": "bare", "verity": {}}, "partition 2"),
    ({"driver": {"packages": ["x1"]}}, "give `kernel`"), ({"hook": {}}, "give `toolkit`"),
    ({"kernel": {}}, "either package, or image"), ({"files": [{"path": "/x"}]}, "either text or source"),
    ({"files": [{"path": "etc/x", "text": ""}]}, "absolute path"),
    ({"files": [{"path": "/etc/../x", "text": ""}]}, "absolute path"),
    ({"files": [{"path": '/etc/"x', "text": ""}]}, "absolute path"),
    ({"files": [{"path": "/x", "text": "", "mode": "rwx"}]}, "files.0.mode"),
    ({"users": [{"name": "app", "uid": 5, "password": "x"}]}, "unknown key"),
    ({"users": [{"name": "app", "uid": 0}]}, "greater than or equal to 1"),
    ({"units": {"enable": ["x"]}}, "units.enable.0"), ({"verity": {"salt": "xyz"}}, "verity.salt"),
    ({"debian": {"suite": "bookworm", "repositories": [{"name": "a", "source": "http://h/d ./"}]}}, "give its `keys`"),
    ({"debian": {"suite": "bookworm", "repositories": [{"name": "a", "source": "http://h/d ./", "unsigned": True}]}},
     "only a repository on this machine"),
    ({"kernel": {"package": "k"}, "driver": {"packages": ["a1"], "run": "x"}}, "exactly one of"),
], ids=str)
def test_bad_recipes_are_refused_with_their_lines(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as refused:
        recipe(tmp_path, **changes)
    text = "\n".join((refused.value.message, *refused.value.details))
    assert message in text
    assert "recipe.yaml:" in text


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="3 problems"):
        recipe(tmp_path, arch="x", filesystem="xfs", layout="iso")


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(Refused) as refused:
        recipe(tmp_path, kata={"agent": "kata-agent"}, files=[{"path": "/x", "source": "dangling"}])
    assert [line.rpartition("/")[2] for line in refused.value.details] == [
        "kata-agent: no such file", "dangling: a link that leads nowhere"]


def test_an_unknown_recipe_names_the_shipped_ones() -> None:
    with pytest.raises(Refused) as refused:
        find_rootfs_recipe("no-such")
    assert "rootfs-minimal" in refused.value.hint


def test_a_changed_hook_makes_a_new_image_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    plain = recipe(tmp_path, toolkit=TOOLKIT, kernel={"package": "linux-image-amd64"}, driver={"packages": ["n1"]})
    hooked = plain.model_copy(update={"hook": recipe(tmp_path, toolkit=TOOLKIT, hook={}).hook})
    assert (base_digest(plain), driver_digest(plain)) == (base_digest(hooked), driver_digest(hooked))
    assert image_digest(plain) != image_digest(hooked)


def test_a_changed_driver_leaves_the_base(tmp_path: Path) -> None:
    kernel = {"package": "linux-image-amd64"}
    one = recipe(tmp_path, kernel=kernel, driver={"packages": ["n1"]})
    other = recipe(tmp_path, kernel=kernel, driver={"packages": ["n2"]})
    assert base_digest(one) == base_digest(other)
    assert driver_digest(one) != driver_digest(other)


def test_content_counts_and_places_do_not(tmp_path: Path) -> None:
    digests = []
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(text)
        digests.append(image_digest(recipe(tmp_path / name, files=[{"path": "/x", "source": "x"}])))
    assert digests[0] == digests[1] != digests[2]


def test_the_hook_is_a_regular_executable_file_at_its_path(tmp_path: Path) -> None:
    made = overlay(recipe(tmp_path, toolkit=TOOLKIT, hook={"path": "/opt/hooks", "toolkit": "/opt/tk"}))
    hook = next(each for each in made.files if "/prestart/" in each.path)
    assert (hook.path, hook.mode) == ("/opt/hooks/prestart/nvidia-container-toolkit.sh", 0o755)
    assert (hook.text or "").startswith("#!/bin/sh\n")
    assert "| /opt/tk -debug" in (hook.text or "")
    assert "/run/vmtool/hook.trace" in (hook.text or "")


def test_cdi_is_a_unit_instead(tmp_path: Path) -> None:
    made = overlay(recipe(tmp_path, toolkit=TOOLKIT, hook={"kind": "cdi"}))
    assert made.enable == ("nvidia-cdi.service",)
    assert not any("/prestart/" in each.path for each in made.files)


def test_kata_gets_agent_units_and_an_empty_machine_id(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"\x7fELF...")
    made = overlay(recipe(tmp_path, kata={"agent": "agent"}))
    files = {each.path: each for each in made.files}
    assert files["/usr/bin/kata-agent"].mode == 0o755
    assert "FailureAction=poweroff" in (files["/etc/systemd/system/kata-agent.service"].text or "")
    assert files["/etc/machine-id"].text == ""
    assert made.links["/etc/systemd/system/basic.target.wants/kata-containers.target"]


def test_an_agent_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agent").write_bytes(b"<html>404</html>")
    with pytest.raises(Refused, match="not a program"):
        overlay(recipe(tmp_path, kata={"agent": "agent"}))


def test_the_recipes_own_file_wins_over_a_rendered_one_and_twice_is_refused(tmp_path: Path) -> None:
    one = {"path": "/etc/hostname", "text": "mine\n"}
    made = overlay(recipe(tmp_path, files=[one]))
    assert [each.text for each in made.files if each.path == "/etc/hostname"] == ["mine\n"]
    with pytest.raises(Refused, match="written twice: /etc/hostname"):
        overlay(recipe(tmp_path, files=[one, one]))


def test_an_architecture_of_the_command_line_wins(tmp_path: Path) -> None:
    assert read_rootfs_recipe(write(tmp_path), arch="arm64").arch == "arm64"
