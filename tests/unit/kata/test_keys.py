"""The key table is whole, and finds what was meant."""

from __future__ import annotations

from collections import Counter

import pytest

from vmtool.kata.keys import find_key, known_sections, nearest, read_keys, releases
from vmtool.kata.lint.keys import fits
from vmtool.spec.kata_releases import RELEASES, release_like, release_of


def test_no_release_and_no_section_lost_a_key() -> None:
    """The numbers were counted in the releases' own structs."""
    assert Counter(key.section for key in read_keys()) == {
        "hypervisor.qemu": 94, "hypervisor.qemu.guest_extension_images": 3, "agent.kata": 8, "runtime": 24,
        "factory": 4}
    assert Counter(release for key in read_keys() for release in key.known) == {
        "CC-0.8.0": 105, "3.15": 104, "3.30": 118, "4.1": 121}


def test_every_key_is_once_there_and_has_a_type_that_is_checked() -> None:
    places = [(key.section, key.name) for key in read_keys()]
    assert len(places) == len(set(places)) == 133
    assert all(key.known for key in read_keys())
    assert {key.type for key in read_keys()} == {
        "bool", "string", "string enum", "string enum (PCIePort)", "float", "uint", "uint32", "uint64",
        "array of string", "array of tables"}


def test_defaults_have_their_own_type() -> None:
    import tomllib

    with_default = [key for key in read_keys() if key.default]
    assert len(with_default) > 80
    for key in with_default:
        assert fits(key.type, tomllib.loads(f"x = {key.default}")["x"]), key


@pytest.mark.parametrize(("name", "known"), [
    ("confidential_guest", ("CC-0.8.0", "3.15", "3.30", "4.1")), ("kernel_verity_params", ("3.30", "4.1")),
    ("pcie_root_port", ("3.15", "3.30", "4.1")), ("sev_guest_policy", ("CC-0.8.0",)),
    ("file_mem_backend", ("CC-0.8.0", "3.15", "3.30")), ("guest_extension_images", ("4.1",)),
])
def test_what_the_releases_know(name: str, known: tuple[str, ...]) -> None:
    key = find_key("hypervisor.qemu", name)
    assert key is not None
    assert key.known == known


def test_every_release_has_its_column() -> None:
    assert {release.keys for release in RELEASES} == set(releases())
    assert "agent.kata" in known_sections("3.15")
    assert "hypervisor.qemu.guest_extension_images" not in known_sections("3.30")


@pytest.mark.parametrize(("section", "name", "meant"), [
    ("hypervisor.qemu", "confidental_guest", "confidential_guest"),
    ("hypervisor.qemu", "defualt_memory", "default_memory"),
    ("hypervisor.qemu", "vfio_mode", "runtime.vfio_mode"), ("runtime", "dial_timeout", "agent.kata.dial_timeout"),
    ("runtime", "zzz", ""),
])
def test_did_you_mean(section: str, name: str, meant: str) -> None:
    assert nearest("4.1", section, name) == meant


@pytest.mark.parametrize(("version", "patched", "name"), [
    ("3.15.0", False, "3.15"), ("3.15.0", True, "3.15-virtcca"), ("3.29.1", False, "3.15"), ("3.30.0", False, "3.30"),
    ("4.7.0", False, "4.1"), ("CC-0.8.0", True, "CC-0.8.0"),
])
def test_a_shims_version_is_taken_for_the_release_it_grew_from(version: str, patched: bool, name: str) -> None:
    assert release_like(version, patched) == release_of(name)


@pytest.mark.parametrize("version", [None, "", "unknown", "2.5.0"])
def test_a_version_that_tells_nothing(version: str | None) -> None:
    assert release_like(version) is None
