"""The releases of Kata's Go runtime that vmtool knows, and what differs between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vmtool.errors import Refused
from vmtool.tee.snp import SNP
from vmtool.tee.table import NONE
from vmtool.tee.tdx import TDX
from vmtool.tee.virtcca import VIRTCCA

GPU = "gpu"
# (TEE, with GPUs or not); SNP and TDX take GPUs since the releases whose shim ships a configuration for it.
PLAIN = ((NONE, False), (NONE, True))
X86 = ((SNP.name, False), (SNP.name, True), (TDX.name, False), (TDX.name, True))
PATCHED = ((VIRTCCA.name, False), (VIRTCCA.name, True))


@dataclass(frozen=True)
class Release:
    """One release.

    Args:
        name: as a person writes it.
        keys: the column of the key table; its template is called the same.
        combinations: (TEE, with GPUs) that exist.
        confidential_vfio: how a confidential guest gets a device: "group" (/dev/vfio/N) or "iommufd"
            (/dev/vfio/devices/vfioN). Releases from 3.26 on refuse the group, virtCCA knows nothing else.
        injection: how GPUs come into the container: an OCI "hook" in the guest's image, or "cdi".
        root: the block device that the guest boots: "vda" is a bare file system, "vda1" a partition.
        virtcca: whether the shim carries the virtCCA patch.
    """

    name: str
    keys: str
    combinations: tuple[tuple[str, bool], ...]
    confidential_vfio: str
    injection: str
    root: str
    virtcca: bool

    @property
    def verity(self) -> bool:
        """Whether it knows `kernel_verity_params`."""
        return self.keys in ("3.30", "4.1")

    @property
    def tees(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(tee for tee, _ in self.combinations))


# CC-0.8.0's SNP and TDX predate GPUs. Its virtCCA patch makes every guest confidential.
RELEASES = (
    Release("CC-0.8.0", "CC-0.8.0", (*PLAIN, (SNP.name, False), (TDX.name, False), *PATCHED), "group", "hook", "vda",
            True),
    Release("3.15", "3.15", PLAIN + X86, "group", "cdi", "vda1", False),
    Release("3.15-virtcca", "3.15", PLAIN + PATCHED, "group", "hook", "vda1", True),
    Release("3.30", "3.30", PLAIN + X86, "iommufd", "cdi", "vda1", False),
    Release("4.1", "4.1", PLAIN + X86, "iommufd", "cdi", "vda1", False),
)
NAMES = tuple(release.name for release in RELEASES)
# Without a shim to ask, what is most often run without a TEE; each TEE has its own.
USUAL = "4.1"


def release_of(name: str) -> Release:
    """The release of that name.

    Raises:
        Refused: there is none.
    """
    for release in RELEASES:
        if release.name.lower() == name.lower():
            return release
    raise Refused(f"Kata {name!r} is not known", hint=f"known: {', '.join(NAMES)}")


def release_like(version: str | None, virtcca: bool = False) -> Release | None:
    """The known release that a shim's version belongs to: the newest that is not newer; None when it tells nothing.

    Args:
        version: as `containerd-shim-kata-v2 --version` prints it, "3.15.0" or "CC-0.8.0".
        virtcca: the shim carries the patch.
    """
    if version is None:
        return None
    if version.upper().startswith("CC-"):
        return RELEASES[0]
    wanted = _numbers(version)
    fitting = [release for release in RELEASES[1:] if release.virtcca == virtcca and _numbers(release.name) <= wanted]
    return fitting[-1] if wanted and fitting else None


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()
