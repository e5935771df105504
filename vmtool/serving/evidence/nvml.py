"""NVIDIA's GPUs, asked by NVML through NVIDIA's own binding (nvidia-ml-py): each signs a report over a nonce.

The binding is in GPU images only, and NVML comes with the driver: without one of them there are no devices.
"""

from __future__ import annotations

import base64
import ctypes
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

BINDING = "pynvml"
# NVML_DEVICE_ARCH_*, as NVIDIA's SDK names those that make reports.
ARCHITECTURES = {9: "HOPPER", 10: "BLACKWELL"}
# NVML_ERROR_DRIVER_NOT_LOADED and NVML_ERROR_LIBRARY_NOT_FOUND: there is no GPU of NVIDIA's in here.
NO_DRIVER = (9, 12)
# NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE.
PROTECTED_PCIE = 1
# Of the form in which NVIDIA's SDK writes a device's evidence.
VERSION = "1.0"


class _Refused(Exception):
    """A device gives no evidence: why."""


@dataclass(frozen=True)
class Devices:
    """What the GPUs gave.

    Args:
        evidence: an item for each that gave some, as NVIDIA's SDK writes it.
        notes: a sentence for each that gave none.
    """

    evidence: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def collect_devices(bound: bytes, binding: Any = None) -> Devices:
    """Reports of all GPUs over 32 bytes. One that gives none is a note: it refuses, or is not in confidential mode.

    Args:
        binding: NVIDIA's module; None for the one that is installed, if one is.
    """
    try:
        nvml = binding or importlib.import_module(BINDING)
    except Exception:  # a binding that cannot be loaded is none
        return Devices()
    try:
        nvml.nvmlInit()
    except Exception as error:
        return Devices() if getattr(error, "value", None) in NO_DRIVER else Devices(notes=(f"NVML: {_reason(error)}",))
    try:
        return _collect(nvml, bound)
    finally:
        _try(nvml.nvmlShutdown)


def _collect(nvml: Any, bound: bytes) -> Devices:
    try:
        driver, count = _text(nvml.nvmlSystemGetDriverVersion()), nvml.nvmlDeviceGetCount()
        why = _not_confidential(nvml)
    except Exception as error:
        return Devices(notes=(f"NVML: {_reason(error)}",))
    if why and count:
        return Devices(notes=tuple(f"GPU {index} gives no evidence: {why}" for index in range(count)))
    found = tuple(_ask(nvml, index, bound, driver) for index in range(count))
    return Devices(tuple(each for each in found if not isinstance(each, str)),
                   tuple(each for each in found if isinstance(each, str)))


def _not_confidential(nvml: Any) -> str:
    """Why the driver's mode lets no GPU give evidence; empty when it does.

    A GPU that is not in confidential mode answers "Unknown Error" to a request for a report. In developer mode it makes
    reports, which do not say so, and protects nothing: only the guest's own driver says so.
    """
    state = nvml.nvmlSystemGetConfComputeState()
    if state.devToolsMode:
        return "its confidential mode is the developer mode, which protects nothing"
    return "" if state.ccFeature or _protects_pcie(nvml) else "it is not in confidential mode"


def _protects_pcie(nvml: Any) -> bool:
    """Whether several GPUs are in the protected PCIe mode, in which each makes reports while the confidential mode is
    off. An older binding or driver knows nothing of it."""
    try:
        settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
        # The binding hands on what it is given, and NVML's status back.
        status = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    except Exception:
        return False
    return bool(status == 0 and settings.multiGpuMode == PROTECTED_PCIE)


def _ask(nvml: Any, index: int, bound: bytes, driver: str) -> Mapping[str, str] | str:
    """The evidence of one GPU, or why there is none."""
    try:
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        return dict(_evidence(nvml, device, bound)) | {"driver_version": driver, "nonce": bound.hex()}
    except Exception as error:
        return f"GPU {index} gives no evidence: {_reason(error)}"


def _evidence(nvml: Any, device: Any, bound: bytes) -> Iterator[tuple[str, str]]:
    kind = nvml.nvmlDeviceGetArchitecture(device)
    if kind not in ARCHITECTURES:
        raise _Refused(f"its architecture ({kind}) makes none")
    report = nvml.nvmlDeviceGetConfComputeGpuAttestationReport(device, bound)
    chain = nvml.nvmlDeviceGetConfComputeGpuCertificate(device)
    yield "version", VERSION
    yield "arch", ARCHITECTURES[kind]
    yield "uuid", _text(nvml.nvmlDeviceGetUUID(device))
    yield "vbios_version", _text(nvml.nvmlDeviceGetVbiosVersion(device))
    yield "evidence", _base64("report", report.attestationReport, report.attestationReportSize)
    yield "certificate", _base64("chain of certificates", chain.attestationCertChain, chain.attestationCertChainSize)


def _base64(what: str, array: Any, size: int) -> str:
    """The first `size` bytes of a field of fixed length."""
    if not 0 < size <= len(array):
        raise _Refused(f"its {what} has a size of {size} bytes")
    return base64.b64encode(bytes(array)[:size]).decode()


def _text(value: str | bytes) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else value


def _reason(error: Exception) -> str:
    """In NVML's own words where it says why; a binding without a function is too old, or the driver is."""
    if isinstance(error, AttributeError):
        return "the binding (nvidia-ml-py) is too old for confidential computing"
    return str(error)[:200] or type(error).__name__


def _try(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception:
        return
