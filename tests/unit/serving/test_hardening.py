"""The profiles: what a container of each is, and what is missing or mixed is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmtool.serving.hardening import CACHE, HOST_IPC, NAMES, PROFILES, SHM, STATUS, TMP, TRITON, Inside, missing

OWN_IPC = "ipc:[4026532999]"


def inside(name: str) -> Inside:
    """A container that was started as the profile says."""
    profile = PROFILES[name]
    mounts = {place: ("tmpfs", frozenset({"rw", "relatime", *options} - {"exec"}))
              for place, options in profile.tmpfs.items()}
    mounts.setdefault(SHM, ("tmpfs", frozenset({"rw", "nosuid", "nodev"})))
    mounts["/"] = ("overlay", frozenset({"ro", "relatime"}))
    return Inside(STATUS, mounts, HOST_IPC if profile.host_ipc else OWN_IPC, 65532)


@pytest.mark.parametrize("name", NAMES)
def test_a_container_of_a_profile_lacks_nothing(name: str) -> None:
    assert list(missing(PROFILES[name], inside(name))) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", STATUS)
def test_what_the_kernel_says_otherwise_is_named(name: str, field: str) -> None:
    found = replace(inside(name), status=STATUS | {field: "00000000a80425fb"})
    assert [field in text for text in missing(PROFILES[name], found)] == [True]


@pytest.mark.parametrize("name", NAMES)
def test_each_mount_of_a_profile_and_each_of_its_options_is_immutable(name: str) -> None:
    right = inside(name)
    for place, options in PROFILES[name].tmpfs.items():
        kind, found = right.mounts[place]
        without = replace(right, mounts=dict(right.mounts) | {place: ("overlay", found)})
        assert list(missing(PROFILES[name], without)) == [f"no tmpfs on {place}"]
        for option in options:
            wrong = found | {"noexec"} if option == "exec" else found - {option}
            changed = replace(right, mounts=dict(right.mounts) | {place: (kind, wrong)})
            assert list(missing(PROFILES[name], changed)) == [f"{place} is not {option}"]
    root = replace(right, mounts=dict(right.mounts) | {"/": ("overlay", frozenset({"rw"}))})
    assert list(missing(PROFILES[name], root)) == ["the root file system is not read-only"]
    assert list(missing(PROFILES[name], replace(right, uid=0))) == ["it runs as root"]
    ipc = replace(right, ipc=OWN_IPC if PROFILES[name].host_ipc else HOST_IPC)
    assert ["IPC" in text for text in missing(PROFILES[name], ipc)] == [True]


@pytest.mark.parametrize("asked", NAMES)
@pytest.mark.parametrize("started", NAMES)
def test_a_container_of_one_profile_is_none_of_another(asked: str, started: str) -> None:
    assert bool(list(missing(PROFILES[asked], inside(started)))) == (asked != started)


def test_a_mixture_is_named() -> None:
    mixed = inside("ipc-host")
    mounts = dict(mixed.mounts) | {CACHE: ("tmpfs", frozenset({"rw", "nosuid", "nodev"}))}
    assert list(missing(PROFILES["ipc-host"], replace(mixed, mounts=mounts))) == [
        "a tmpfs on /root/.cache is of the profile private-shm: a mixture is none"]


def test_the_profiles_are_the_run_guides() -> None:
    everywhere = ("exec", "nosuid", "nodev")
    assert PROFILES["ipc-host"].tmpfs == {TMP: everywhere}
    assert PROFILES["private-shm"].tmpfs == dict.fromkeys((TMP, SHM, TRITON, CACHE), everywhere)
