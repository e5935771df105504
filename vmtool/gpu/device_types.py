"""What a PCI device is to vmtool: a GPU, an NVSwitch, another accelerator, a part of such a card, a bridge, or foreign.

Classes are compared exactly: 0x0680 is "other bridge" to the PCI code book, and an NVSwitch to NVIDIA.
"""

from __future__ import annotations

import re

from vmtool.frozen import dataclass
from vmtool.gpu.pci import PciDevice

NVIDIA, AMD, INTEL, HABANA, HUAWEI = 0x10DE, 0x1002, 0x8086, 0x1DA3, 0x19E5
VENDORS = {NVIDIA: "nvidia", AMD: "amd", INTEL: "intel", HABANA: "habana", HUAWEI: "huawei"}
# A BMC's display (ASPEED, Matrox) has class 0x0300 too, hence the look at the vendor. 0x0380: AMD's Instinct.
DISPLAY = (0x0300, 0x0302, 0x0380)
PROCESSING_ACCELERATOR = 0x1200
OTHER_BRIDGE = 0x0680
BRIDGES = (0x0600, 0x0604)
# The functions that come with a graphics card: audio, xHCI, UCSI.
COMPANIONS = (0x0403, 0x0C03, 0x0C80)


@dataclass(frozen=True)
class Model:
    """A model by its device id: the name of its type, and bytes of memory, None when they differ within the id."""

    type: str
    memory: int | None = None


def _models(vendor: int, name: str, memory: int | None, *devices: int) -> dict[tuple[int, int], Model]:
    return {(vendor, device): Model(name, memory << 30 if memory else None) for device in devices}


# From pci.ids and the device table of NVIDIA's gpu-admin-tools; memory in GiB as the model is sold (of one MI250 die).
MODELS = {
    **_models(NVIDIA, "nvidia-v100", 16, 0x1DB1, 0x1DB4, 0x1DF5), **_models(NVIDIA, "nvidia-v100", 32, 0x1DB5, 0x1DB6),
    **_models(NVIDIA, "nvidia-t4", 16, 0x1EB8),
    **_models(NVIDIA, "nvidia-a100", 40, 0x20B0, 0x20B1, 0x20F1), **_models(NVIDIA, "nvidia-a100", 80, 0x20B2, 0x20B5),
    **_models(NVIDIA, "nvidia-a100", 64, 0x20B3), **_models(NVIDIA, "nvidia-a800", 80, 0x20F3, 0x20F5),
    **_models(NVIDIA, "nvidia-a800", 40, 0x20F6), **_models(NVIDIA, "nvidia-a30", 24, 0x20B7),
    **_models(NVIDIA, "nvidia-a40", 48, 0x2235), **_models(NVIDIA, "nvidia-a10", 24, 0x2236),
    **_models(NVIDIA, "nvidia-a10g", 24, 0x2237),
    **_models(NVIDIA, "nvidia-l2", 24, 0x27B6), **_models(NVIDIA, "nvidia-l4", 24, 0x27B8),
    **_models(NVIDIA, "nvidia-l20", 48, 0x26BA, 0x26B7), **_models(NVIDIA, "nvidia-l40", 48, 0x26B5),
    **_models(NVIDIA, "nvidia-l40s", 48, 0x26B9),
    **_models(NVIDIA, "nvidia-h100", 80, 0x2330, 0x2331), **_models(NVIDIA, "nvidia-h100", 64, 0x2337),
    **_models(NVIDIA, "nvidia-h100", 94, 0x2321, 0x2339),
    **_models(NVIDIA, "nvidia-h100", None, 0x2313, 0x2336, 0x2338, 0x233D),
    **_models(NVIDIA, "nvidia-h800", 80, 0x2322, 0x2324), **_models(NVIDIA, "nvidia-h800", None, 0x233A),
    **_models(NVIDIA, "nvidia-h200", 141, 0x2335, 0x233B),
    **_models(NVIDIA, "nvidia-h20", None, 0x2309, 0x230C, 0x230E, 0x2328, 0x2329, 0x232C),
    **_models(NVIDIA, "nvidia-gh200", None, 0x2342, 0x2343, 0x2345, 0x2348),
    **_models(NVIDIA, "nvidia-b200", None, 0x2901), **_models(NVIDIA, "nvidia-b300", None, 0x3182),
    **_models(NVIDIA, "nvidia-gb200", None, 0x2941), **_models(NVIDIA, "nvidia-gb300", None, 0x31A1, 0x31C2),
    **_models(AMD, "amd-mi210", 64, 0x740F), **_models(AMD, "amd-mi250", 64, 0x7408, 0x740C),
    **_models(AMD, "amd-mi300x", 192, 0x74A1), **_models(HABANA, "habana-gaudi2", 96, 0x1020),
    **_models(HUAWEI, "huawei-ascend310", None, 0xD100), **_models(HUAWEI, "huawei-ascend310p", None, 0xD500),
    **_models(HUAWEI, "huawei-ascend910", None, 0xD801, 0xD802),
}


def kind_of(device: PciDevice) -> str:
    """gpu, nvswitch, accelerator or bridge; empty for everything else."""
    if device.base_class in BRIDGES:
        return "bridge"
    if device.base_class == OTHER_BRIDGE and device.vendor == NVIDIA:
        return "nvswitch"
    if device.base_class in DISPLAY and device.vendor in VENDORS:
        return "gpu"
    return "accelerator" if device.base_class == PROCESSING_ACCELERATOR and device.vendor in VENDORS else ""


def is_accelerator(device: PciDevice) -> bool:
    """Whether `vmtool gpu` deals with it in its own right."""
    return kind_of(device) in ("gpu", "nvswitch", "accelerator")


def type_of(device: PciDevice, name: str = "") -> str:
    """The type for `--type` and the spec, such as nvidia-h100; of an unknown model from its name, or its id."""
    if kind_of(device) == "nvswitch":
        return "nvidia-nvswitch"
    vendor = VENDORS.get(device.vendor, f"{device.vendor:04x}")
    known = MODELS.get((device.vendor, device.device))
    bracketed = re.search(r"\[([^\]]+)\]", name)
    words = re.sub(r"[^a-z0-9]+", "-", bracketed[1].lower()).strip("-") if bracketed else f"{device.device:04x}"
    return known.type if known else f"{vendor}-{words}"


def memory_of(device: PciDevice) -> int | None:
    """Bytes of its memory as the model is sold; None when that is not known."""
    known = MODELS.get((device.vendor, device.device))
    return known.memory if known else None


def has_cc_mode(device: PciDevice) -> bool:
    """Whether the architecture has a confidential-computing mode: Hopper (0x23..), Blackwell (0x29.. and up), NVSwitch.

    Ada's ids (0x26.. to 0x28..) lie between them.
    """
    if device.vendor != NVIDIA or kind_of(device) not in ("gpu", "nvswitch"):
        return False
    return 0x2300 <= device.device < 0x2400 or device.device >= 0x2900 or device.device == 0x22A3
