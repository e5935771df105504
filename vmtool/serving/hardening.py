"""The profiles of restrictions that a container is started with, as data, and the check of them from inside.

`strict` is vmtool's own. The other two are those of the public run guide of cryptotensors' vLLM: its lists disagree, so
each of them is a profile, and a mixture of both is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

ProfileName = Literal["strict", "ipc-host", "private-shm"]
NAMES: tuple[ProfileName, ...] = get_args(ProfileName)
TMP, SHM, TRITON, CACHE = "/tmp", "/dev/shm", "/root/.triton", "/root/.cache"  # noqa: S108
EXEC, NOEXEC = ("exec", "nosuid", "nodev"), ("noexec", "nosuid", "nodev")
# What the kernel says of a process (proc(5)): no capability, no new privileges, a filter of system calls.
NOTHING = "0" * 16
STATUS = {"CapInh": NOTHING, "CapPrm": NOTHING, "CapEff": NOTHING, "CapBnd": NOTHING, "CapAmb": NOTHING,
          "NoNewPrivs": "1", "Seccomp": "2"}
# include/linux/proc_ns.h, PROC_IPC_INIT_INO: the IPC namespace that a host starts with.
HOST_IPC = "ipc:[4026531839]"


@dataclass(frozen=True)
class Profile:
    """One of them. All have a read-only root, no capability, no new privileges, seccomp, and a user that is not root.

    Args:
        tmpfs: where memory is mounted, and with which options.
        host_ipc: whether shared memory is the host's.
    """

    name: ProfileName
    tmpfs: Mapping[str, tuple[str, ...]]
    host_ipc: bool = False


PROFILES: dict[str, Profile] = {each.name: each for each in (
    # vLLM compiles and caches under /tmp, hence exec; shared memory carries tensors between its processes.
    Profile("strict", {TMP: EXEC, SHM: NOEXEC}),
    Profile("ipc-host", {TMP: EXEC}, host_ipc=True),
    Profile("private-shm", {TMP: EXEC, SHM: EXEC, TRITON: EXEC, CACHE: EXEC}),
)}


@dataclass(frozen=True)
class Inside:
    """What a process sees of its own restrictions.

    Args:
        status: of /proc/self/status.
        mounts: place -> (type of file system, options); the last one mounted there.
        ipc: its IPC namespace.
        uid: its user.
    """

    status: Mapping[str, str]
    mounts: Mapping[str, tuple[str, frozenset[str]]]
    ipc: str
    uid: int


def read_inside() -> Inside:
    """This process.

    Raises:
        OSError: /proc is not there.
    """
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    mounts = dict(map(_mount, Path("/proc/self/mountinfo").read_text().splitlines()))
    return Inside({name: value.strip() for name, value in status.items()}, mounts,
                  os.readlink("/proc/self/ns/ipc"), os.getuid())


def _mount(line: str) -> tuple[str, tuple[str, frozenset[str]]]:
    """proc(5), mountinfo: ID, parent, device, root, place, options, tags, a dash, type."""
    fields, _, rest = line.partition(" - ")
    words = fields.split()
    return words[4], (rest.split()[0], frozenset(words[5].split(",")))


def missing(profile: Profile, inside: Inside) -> Iterator[str]:
    """Each restriction of the profile that this process lacks, and each of another profile that it has."""
    for name, value in STATUS.items():
        if inside.status.get(name) != value:
            yield f"{name} is {inside.status.get(name, 'not there')}, not {value}"
    if inside.uid == 0:
        yield "it runs as root"
    if "ro" not in inside.mounts.get("/", ("", frozenset()))[1]:
        yield "the root file system is not read-only"
    for place, options in profile.tmpfs.items():
        kind, found = inside.mounts.get(place, ("", frozenset()))
        if kind != "tmpfs":
            yield f"no tmpfs on {place}"
        else:
            yield from (f"{place} is not {each}" for each in options if not _has(found, each))
    if (inside.ipc == HOST_IPC) != profile.host_ipc:
        yield f"the IPC namespace is {'not ' if profile.host_ipc else ''}the host's"
    yield from _mixed(profile, inside)


def _has(found: frozenset[str], option: str) -> bool:
    return "noexec" not in found if option == "exec" else option in found


def _mixed(profile: Profile, inside: Inside) -> Iterator[str]:
    """What is another profile's alone."""
    for other in PROFILES.values():
        for place in other.tmpfs:
            # The host's own /dev/shm is a tmpfs too.
            if place not in profile.tmpfs and place != SHM and inside.mounts.get(place, ("",))[0] == "tmpfs":
                yield f"a tmpfs on {place} is of the profile {other.name}: a mixture is none"
