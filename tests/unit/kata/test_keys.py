"""The key table is whole, and finds what was meant."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from vmtool.kata.keys import nearest, read_keys
from vmtool.kata.lint.types import fits
from vmtool.spec.kata_releases import NAMES, ROWS, release_like, release_of, releases

NEW = ("3.30", "3.32", "4.1", "4.3")


def test_no_release_and_no_section_lost_a_key() -> None:
    """The numbers were counted in the releases' own structs."""
    assert Counter(key.section for key in read_keys()) == {
        "hypervisor.qemu": 94, "hypervisor.qemu.guest_extension_images": 3, "agent.kata": 8, "runtime": 24,
        "factory": 4, "image": 3}
    assert Counter(release for key in read_keys() for release in key.known) == {
        "CC-0.8.0": 108, "3.15": 104, "3.15-virtcca": 104, "3.30": 118, "3.32": 123, "4.1": 121,
        "4.3": 121}


def test_every_key_is_once_there_and_has_a_type_that_is_checked() -> None:
    places = [(key.section, key.name) for key in read_keys()]
    assert len(places) == len(set(places)) == 136
    assert all(key.known for key in read_keys())
    assert {key.type for key in read_keys()} == {
        "bool", "string", "float32", "uint", "uint32", "uint64", "array of string", "array of tables"}


def test_defaults_have_their_own_type() -> None:
    import tomllib

    with_default = [key for key in read_keys() if key.default]
    assert len(with_default) > 80
    for key in with_default:
        assert fits(key.type, tomllib.loads(f"x = {key.default}")["x"]), key


@pytest.mark.parametrize(("name", "known"), [
    ("confidential_guest", NAMES), ("kernel_verity_params", NEW),
    ("pcie_root_port", ("3.15", "3.15-virtcca", *NEW)), ("sev_guest_policy", ("CC-0.8.0",)),
    ("file_mem_backend", ("CC-0.8.0", "3.15", "3.15-virtcca", "3.30", "3.32")),
    ("guest_extension_images", ("3.32", "4.1", "4.3")),
])
def test_what_the_releases_know(name: str, known: tuple[str, ...]) -> None:
    [key] = [key for key in read_keys() if (key.section, key.name) == ("hypervisor.qemu", name)]
    assert key.known == known


def test_the_default_and_what_other_configurations_have() -> None:
    [key] = [key for key in read_keys() if key.name == "cold_plug_vfio"]
    assert key.default == '"no-port"'
    assert ("qemu-nvidia-gpu-snp", '"root-port"') in key.variants
    assert release_of("CC-0.8.0").keys["hypervisor.qemu"]["default_vcpus"] == "int32"


def test_what_a_row_ships_it_knows_or_it_is_known_to_be_old() -> None:
    for release in releases():
        unknown = {f"{section}.{key}" for files in release.shipped.values() for file in files.values()
                   for section, table in file["set"].items() for key in table if not release.knows(section, key)}
        assert unknown <= {"hypervisor.qemu.hotplug_vfio_on_root_bus", "hypervisor.qemu.pcie_root_port"}
        assert all(release.configuration(*combination) in release.shipped["x86_64"]
                   for combination in release.combinations)


@pytest.mark.parametrize(("section", "name", "meant"), [
    ("hypervisor.qemu", "confidental_guest", "confidential_guest"),
    ("hypervisor.qemu", "defualt_memory", "default_memory"),
    ("hypervisor.qemu", "vfio_mode", "runtime.vfio_mode"), ("runtime", "dial_timeout", "agent.kata.dial_timeout"),
    ("runtime", "zzz", ""),
])
def test_did_you_mean(section: str, name: str, meant: str) -> None:
    assert nearest(release_of("4.1"), section, name) == meant


@pytest.mark.parametrize(("version", "patched", "name", "newer"), [
    ("3.15.0", False, "3.15", False), ("3.15.0", True, "3.15-virtcca", False), ("3.29.1", False, "3.15", False),
    ("3.30.0", False, "3.30", False), ("4.1.2", False, "4.1", False), ("4.2.0", False, "4.1", False),
    ("4.3.1", False, "4.3", False),
    ("4.0.2", False, "3.32", False), ("3.31.0", False, "3.30", False),
    ("4.7.0", False, "4.3", True), ("3.20.0", True, "3.15-virtcca", True),
    ("CC-0.8.0", True, "CC-0.8.0", False), ("3.2.0-rc0", True, "CC-0.8.0", False),
    ("3.2.0-rc0", False, "CC-0.8.0", False),
])
def test_a_shims_version_is_taken_for_the_nearest_release_below(version: str, patched: bool, name: str,
                                                                newer: bool) -> None:
    found = release_like(version, patched)
    assert found is not None
    assert (found.name, found.newer) == (name, newer)


@pytest.mark.parametrize("version", [None, "", "unknown", "2.5.0", "3.2.0", "3.14.9"])
def test_a_version_that_says_nothing_or_is_older_than_all(version: str | None) -> None:
    assert release_like(version) is None


def test_a_release_between_two_has_what_came_in_between() -> None:
    assert [release_of(name).confidential_vfio for name in ("3.15", "3.25", "3.26", "3.29.1", "3.30", "3.15-virtcca")
            ] == ["group", "group", "iommufd", "iommufd", "iommufd", "group"]
    assert [release_of(name).toml for name in ("3.29", "3.30")] == ["1.0", "1.1"]
    assert (release_of("3.28").title, release_of("3.30.0").title) == ("3.28 (nearest known: 3.15)", "3.30")


def test_a_row_of_what_was_read_only_names_what_it_was() -> None:
    rows = {path.stem: json.loads(path.read_text()) for path in ROWS.glob("*.json")}
    assert {name for name, row in rows.items() if row["known_by"] == "read"} == {"3.32", "4.3"}
    assert all(bool(row.get("read")) == (row["known_by"] == "read") for row in rows.values())
    assert [release_of(name).title for name in ("3.32", "4.3", "4.0.1", "4.2")] == [
        "3.32 (read, not run)", "4.3 (read, not run)", "4.0.1 (nearest known: 3.32 (read, not run))",
        "4.2 (nearest known: 4.1)"]
    assert [release.name for release in releases() if not release.exact] == ["3.32", "4.3"]
    assert [release_of(name).exact for name in ("4.1.0", "4.2", "3.30", "3.31")] == [True, False, True, False]
