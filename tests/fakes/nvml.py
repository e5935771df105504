"""NVIDIA's binding (`pynvml`) before GPUs that only tests trust: what it gives and raises is as nvidia-ml-py's."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.unit.attest.make_nvidia import DEVICE, ROOT, VBIOS, Device
from vmtool.serving.evidence.nvml import Devices, collect_devices

# As NVML numbers and words them.
NOT_SUPPORTED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, UNKNOWN = 3, 9, 12, 999
WORDS = {3: "Not Supported", 9: "Driver Not Loaded", 12: "NVML Shared Library Not Found", 999: "Unknown Error"}
HOPPER, ADA = 9, 8


class NVMLError(Exception):
    """As the binding's: its value is NVML's."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return WORDS[self.value]


class Report(ctypes.Structure):
    """c_nvmlConfComputeGpuAttestationReport_t."""

    _fields_ = (("isCecAttestationReportPresent", ctypes.c_uint), ("attestationReportSize", ctypes.c_uint),
                ("cecAttestationReportSize", ctypes.c_uint), ("nonce", ctypes.c_uint8 * 0x20),
                ("attestationReport", ctypes.c_uint8 * 0x2000), ("cecAttestationReport", ctypes.c_uint8 * 0x1000))


class Certificate(ctypes.Structure):
    """c_nvmlConfComputeGpuCertificate_t."""

    _fields_ = (("certChainSize", ctypes.c_uint), ("attestationCertChainSize", ctypes.c_uint),
                ("certChain", ctypes.c_uint8 * 0x1000), ("attestationCertChain", ctypes.c_uint8 * 0x1400))


@dataclass(frozen=True)
class Gpu:
    """One.

    Args:
        refuses: NVML's error of the report; None for a GPU in confidential mode.
        size: that it says of its report; None for the true one.
    """

    device: Device = field(default_factory=Device)
    architecture: int = HOPPER
    refuses: int | None = None
    size: int | None = None


class Settings(ctypes.Structure):
    """nvmlSystemConfComputeSettings_v1_t."""

    _fields_ = [(name, ctypes.c_uint) for name in ("version", "environment", "ccFeature", "devToolsMode",
                                                   "multiGpuMode")]

    def __init__(self) -> None:
        super().__init__(version=0x1000014)


@dataclass
class FakeNvml:
    """The module; each GPU's handle is itself."""

    gpus: Sequence[Gpu] = ()
    init: int | None = None
    confidential: int = 1
    developer: int = 0
    multi_gpu: int = 0
    settings_status: int = 0
    c_nvmlSystemConfComputeSettings_v1_t: type[Settings] = Settings  # noqa: N815
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        answer = getattr(FakeNvml, f"_{name.removeprefix('nvml')}", None)
        if answer is None:
            raise AttributeError(name)

        def call(*words: Any) -> Any:
            self.asked.append(name)
            return answer(self, *words)

        return call

    def _Init(self) -> None:  # noqa: N802
        if self.init is not None:
            raise NVMLError(self.init)

    def _Shutdown(self) -> None:  # noqa: N802
        return

    def _SystemGetDriverVersion(self) -> str:  # noqa: N802
        return "600.1"

    def _SystemGetConfComputeState(self) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(environment=1, ccFeature=self.confidential, devToolsMode=self.developer)

    def _SystemGetConfComputeSettings(self, pointer: Any) -> int:  # noqa: N802
        found = ctypes.cast(pointer, ctypes.POINTER(Settings)).contents
        assert found.version == 0x1000014, "NVML refuses any other"
        found.ccFeature, found.devToolsMode, found.multiGpuMode = self.confidential, self.developer, self.multi_gpu
        return self.settings_status

    def _DeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def _DeviceGetHandleByIndex(self, index: int) -> Gpu:  # noqa: N802
        return self.gpus[index]

    def _DeviceGetArchitecture(self, gpu: Gpu) -> int:  # noqa: N802
        return gpu.architecture

    def _DeviceGetUUID(self, gpu: Gpu) -> str:  # noqa: N802
        return "GPU-00000000-0000-0000-0000-000000000000"

    def _DeviceGetVbiosVersion(self, gpu: Gpu) -> str:  # noqa: N802
        return VBIOS

    def _DeviceGetConfComputeGpuAttestationReport(self, gpu: Gpu, nonce: bytes) -> Report:  # noqa: N802
        if gpu.refuses is not None:
            raise NVMLError(gpu.refuses)
        data = replace(gpu.device, nonce=nonce).report()
        found = Report(attestationReportSize=len(data) if gpu.size is None else gpu.size)
        ctypes.memmove(found.attestationReport, data, len(data))
        return found

    def _DeviceGetConfComputeGpuCertificate(self, gpu: Gpu) -> Certificate:  # noqa: N802
        data = gpu.device.issued.pem + ROOT.pem
        found = Certificate(attestationCertChainSize=len(data))
        ctypes.memmove(found.attestationCertChain, data, len(data))
        return found

    def ask(self, bound: bytes) -> Devices:
        """What the front asks."""
        return collect_devices(bound, self)


def recorded(name: str) -> SimpleNamespace:
    """The binding as it was before a real GPU: each call answers, or raises, what it did then."""
    data = json.loads((Path(__file__).parents[1] / "data" / "nvml" / f"{name}.json").read_text())

    def call(said: dict[str, Any]) -> Callable[..., Any]:
        def answer(*words: Any) -> Any:
            if "error" in said:
                raise NVMLError(said["value"])
            return SimpleNamespace(**said["value"]) if isinstance(said["value"], dict) else said["value"]

        return answer

    return SimpleNamespace(**{said["call"]: call(said) for said in data["calls"]})


def gpus(*made: Gpu | Device) -> FakeNvml:
    """GPUs in confidential mode, or as they are given."""
    return FakeNvml([each if isinstance(each, Gpu) else Gpu(each) for each in made or (Device(issued=DEVICE),)])
