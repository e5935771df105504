"""Which driver branch a GPU needs at least, of NVIDIA's open kernel modules."""

from __future__ import annotations

import re

from vmtool.errors import Refused
from vmtool.frozen import dataclass
from vmtool.gpu.device_types import MODELS, NVIDIA, kind_of
from vmtool.gpu.pci import read_pci
from vmtool.machine import Reader
from vmtool.rootfs.recipe.models import Driver


@dataclass(frozen=True)
class Row:
    """PCI device ids of an architecture, from `first` to `last`, and the first branch with open modules for it.

    `least` is None when no branch has them.
    """

    first: int
    last: int
    name: str
    least: int | None


# Device ids: "Compatible GPUs" in README.md of github.com/NVIDIA/open-gpu-kernel-modules, and pci.ids.
# No open modules before Turing, 515 the first with any: NVIDIA's driver installation guide, "Kernel Modules".
# Ada and Hopper: NVIDIA's release notes of the data center driver 525. Blackwell: github.com/NVIDIA/cloud-native-docs,
# pull request 184 (HGX B200: 570.133.20).
ROWS = (
    Row(0x0001, 0x1DFF, "before Turing", None), Row(0x1E00, 0x1FFF, "Turing", 515), Row(0x2080, 0x20FF, "Ampere", 515),
    Row(0x2180, 0x21FF, "Turing", 515), Row(0x2200, 0x22FF, "Ampere", 515), Row(0x2300, 0x23FF, "Hopper", 525),
    Row(0x2400, 0x25FF, "Ampere", 515), Row(0x2600, 0x28FF, "Ada", 525), Row(0x2900, 0x2FFF, "Blackwell", 570),
    Row(0x3180, 0x31FF, "Blackwell", 570),
)


def read_gpus(reader: Reader) -> tuple[int, ...]:
    """Device ids of this host's NVIDIA GPUs, each once."""
    return tuple(sorted({device.device for device in read_pci(reader)
                         if device.vendor == NVIDIA and kind_of(device) == "gpu"}))


def branch_of(driver: Driver) -> int | None:
    """The branch that is asked for, or that the installer's name shows; None when only the archive knows."""
    named = re.search(r"-(\d{3})\.\d+", driver.run.name) if driver.run else None
    text = driver.branch or (named[1] if named else "")
    return int(text) if text else None


def check_fit(name: str, driver: Driver, host: tuple[int, ...]) -> None:
    """Hold the branch against the GPUs that the recipe names, or else against this host's.

    Args:
        name: of the recipe or image, for the message.
        host: device ids of this host's GPUs, which count when the recipe names none.

    Raises:
        Refused: it drives one of them not.
    """
    branch = branch_of(driver)
    try:
        named = {each: device_ids(each) for each in driver.gpu}
    except ValueError as error:
        raise Refused(f"{name}: driver.gpu: {error}") from error
    wanted = named or {f"this host's GPU 10de:{each:04x}": (each,) for each in host}
    problems = [problem for each, ids in wanted.items() if (problem := _problem(each, ids, branch))]
    if problems:
        raise Refused(f"{name}: the driver does not fit the GPU", details=problems,
                      hint="name the GPUs that the image is for in the recipe: driver: {gpu: [nvidia-h100]}" if
                      not driver.gpu else "choose a newer driver: its `packages`, `run` or `branch`")


def device_ids(name: str) -> tuple[int, ...]:
    """The ids of a type such as nvidia-h100, or of "10de:2330".

    Raises:
        ValueError: nobody knows it.
    """
    if match := re.fullmatch(r"10de:([0-9a-f]{4})", name):
        return (int(match[1], 16),)
    found = tuple(device for (vendor, device), model in MODELS.items() if vendor == NVIDIA and model.type == name)
    if not found:
        known = sorted({model.type for (vendor, _), model in MODELS.items() if vendor == NVIDIA})
        raise ValueError(f"{name}: no GPU that is known here; a device id such as 10de:2330, or {', '.join(known)}")
    return found


def _problem(name: str, ids: tuple[int, ...], branch: int | None) -> str:
    rows = [row for row in ROWS for each in ids if row.first <= each <= row.last]
    if not rows:
        return ""
    row = rows[0]
    if row.least is None:
        return f"{name} is {row.name}, for which there are no open kernel modules"
    if branch is not None and branch < row.least:
        return f"{name} is {row.name}, which needs branch {row.least} or later; the driver is of {branch}"
    return ""
