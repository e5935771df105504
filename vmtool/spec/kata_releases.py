"""The releases of Kata's Go runtime that vmtool knows: each is a file of data in kata_rows."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmtool.errors import Refused
from vmtool.foreign import parse_json
from vmtool.frozen import dataclass
from vmtool.tee.virtcca import VIRTCCA

ROWS = Path(__file__).with_name("kata_rows")
GPU, PATCHED = "+gpu", f"-{VIRTCCA.name}"
# Without a shim to ask, what is most often run without a TEE; each TEE has its own.
USUAL = "4.1"
HYPERVISORS = "hypervisor.*"
# Settings and behaviour that came with a release, or that one was the last to have.
IOMMUFD, EROFS, STRICT_ENVIRONMENT, TOML_1_1, INIT_DATA = (3, 26), (3, 31), (4, 0), (3, 30), (3, 30)
LAST_CONFIG_PATH = (3, 30)


@dataclass(frozen=True, eq=False)
class Release:
    """One release, as its row says.

    Args:
        name: as a person writes it.
        version: (3, 15); of the shim that was found where that is no release of its own.
        shim: the version that the shim calls itself by, where one was found.
        known_by: "run": its own parsers were run; "read": public sources were read only, which its row names.
        virtcca: whether the shim carries the virtCCA patch.
        root: the block device that the guest boots: "vda" is a bare file system, "vda1" a partition.
        injection: how GPUs come into the container: an OCI "hook" in the guest's image, or "cdi".
        configurations: "TEE" or "TEE+gpu" -> the shipped configuration that serves it, without its ending.
        keys: section -> key -> Go type. "hypervisor.*" are those of other hypervisors, which share one type with QEMU.
        shipped: machine -> configuration -> what it sets and unsets in the plain one.
        calls_itself: versions that its shim reports instead of its name.
        newer: the shim is newer than every row: its own files are changed, but none is guessed.
    """

    name: str
    version: tuple[int, ...]
    known_by: str
    virtcca: bool
    root: str
    injection: str
    configurations: Mapping[str, str]
    keys: Mapping[str, Mapping[str, str]]
    shipped: Mapping[str, Mapping[str, Any]]
    calls_itself: tuple[str, ...] = ()
    shim: str = ""
    newer: bool = False

    @property
    def title(self) -> str:
        """The name, and the shim's version where it is not this release."""
        read = " (read, not run)" if self.known_by == "read" else ""
        return f"{self.name}{read}" if self.is_itself else f"{self.shim} (nearest known: {self.name}{read})"

    @property
    def asked(self) -> str:
        """By which name it is asked for, so that it is found again."""
        return self.name if self.is_itself else self.shim

    @property
    def is_itself(self) -> bool:
        """Whether a shim that was found is of this very release."""
        return not self.shim or _numbers(self.shim) == _numbers(self.name) or self.shim in self.calls_itself

    @property
    def exact(self) -> bool:
        """Whether nothing else is known to it than to its row: its own parsers were run."""
        return self.is_itself and self.known_by == "run"

    @property
    def confidential_vfio(self) -> str:
        """How a confidential guest gets a device: "group" (/dev/vfio/N) or "iommufd" (/dev/vfio/devices/vfioN).

        Releases from 3.26 on refuse the group (createPCIeTopology of qemu.go); virtCCA knows nothing else.
        """
        return "iommufd" if self.version >= IOMMUFD and not self.virtcca else "group"

    @property
    def toml(self) -> str:
        """The version of TOML that its configuration is read as."""
        return "1.1" if self.version >= TOML_1_1 else "1.0"

    @property
    def verity(self) -> bool:
        """Whether it knows `kernel_verity_params`."""
        return self.knows("hypervisor.qemu", "kernel_verity_params")

    @property
    def tees(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.removesuffix(GPU) for name in self.configurations))

    @property
    def combinations(self) -> tuple[tuple[str, bool], ...]:
        """(TEE, with GPUs) that exist."""
        return tuple((name.removesuffix(GPU), name.endswith(GPU)) for name in self.configurations)

    def configuration(self, tee: str, gpus: int) -> str | None:
        """The shipped configuration for it, such as "qemu-snp"; None when there is none."""
        return self.configurations.get(tee + (GPU if gpus else ""))

    def knows(self, section: str, key: str) -> bool:
        return key in self.keys.get(section, {})


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


# Forks that have a version of their own come first, the others from old to new.
NAMES = tuple(sorted((path.stem for path in ROWS.glob("*.json")), key=lambda name: (_numbers(name), name)))


@functools.cache
def _row(name: str) -> Release:
    row: dict[str, Any] = parse_json((ROWS / f"{name}.json").read_text())
    return Release(row["name"], _numbers(row["version"]), row["known_by"], row["patched"], row["root"],
                   row["injection"], row["configurations"], row["keys"], row["shipped"], tuple(row["calls_itself"]))


def releases() -> tuple[Release, ...]:
    """Every row; most commands need one only."""
    return tuple(map(_row, NAMES))


def release_of(name: str) -> Release:
    """The release of that name, or of a version such as "3.28" the nearest one below it.

    Raises:
        Refused: there is none.
    """
    for known in NAMES:
        if known.lower() == name.lower():
            return _row(known)
    version = name.lower().removesuffix(PATCHED)
    found = release_like(version, version != name.lower()) if re.fullmatch(r"\d+(\.\d+){1,2}", version) else None
    if found:
        return found
    raise Refused(f"Kata {name!r} is not known", hint=f"known: {', '.join(NAMES)}")


def release_like(version: str | None, virtcca: bool = False) -> Release | None:
    """The known release that a shim's version belongs to: the newest that is not newer; None when it says nothing,
    or is older than all.

    Args:
        version: as `containerd-shim-kata-v2 --version` prints it, "3.15.0" or "CC-0.8.0".
        virtcca: the shim carries the patch.
    """
    if not version:
        return None
    wanted, rows = _numbers(version), releases()
    named = [row for row in rows if version in row.calls_itself]
    if named:
        return replace(named[0], shim=version)
    # A fork with a version of its own is nothing that the main line grew from.
    kin = [row for row in rows if row.virtcca == virtcca and not row.calls_itself]
    fitting = [row for row in kin if row.version <= wanted]
    if not fitting:
        return None
    return replace(fitting[-1], version=wanted, shim=version, newer=wanted > kin[-1].version)
