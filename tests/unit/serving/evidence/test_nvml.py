"""GPUs by NVIDIA's binding: reports that the verifier takes, and notes where there are none."""

from __future__ import annotations

import json
import sys
from types import ModuleType

import pytest

from tests.fakes import nvml as fake
from tests.fakes.nvml import FakeNvml, Gpu, gpus
from tests.unit.attest.cases import request, unproven
from tests.unit.attest.make_nvidia import DRIVER_RIM, ROOTS, VBIOS_RIM, Device
from vmtool.serving.evidence.binding import bind
from vmtool.serving.evidence.collect import document
from vmtool.serving.evidence.collected import Collected
from vmtool.serving.evidence.nvml import Devices, collect_devices

BOUND = bytes(range(32))


def test_a_gpu_gives_what_the_verifier_takes_over_the_nonce() -> None:
    found = collect_devices(BOUND, one := gpus())
    assert (found.notes, one.asked[0], one.asked[-1]) == ((), "nvmlInit", "nvmlShutdown")
    [item] = found.evidence
    assert (item["arch"], item["driver_version"], item["nonce"]) == ("HOPPER", "600.1", BOUND.hex())
    data = json.dumps(list(found.evidence)).encode()
    assert unproven(data, request(DRIVER_RIM, VBIOS_RIM, roots=ROOTS, nonce=BOUND)) == []
    assert unproven(data, request(roots=ROOTS, nonce=BOUND[::-1])) == ["nvidia0.freshness"]


@pytest.mark.parametrize(("nvml", "notes"), [
    (FakeNvml(init=fake.DRIVER_NOT_LOADED), ()), (FakeNvml(init=fake.LIBRARY_NOT_FOUND), ()), (FakeNvml(), ()),
    (FakeNvml(init=fake.UNKNOWN), ("NVML: Unknown Error",)),
    (FakeNvml([Gpu(), Gpu()], confidential=0), ("GPU 0 gives no evidence: it is not in confidential mode",
                                                "GPU 1 gives no evidence: it is not in confidential mode")),
    (FakeNvml([Gpu()], developer=1), (
        "GPU 0 gives no evidence: its confidential mode is the developer mode, which protects nothing",)),
    (gpus(Gpu(refuses=fake.NOT_SUPPORTED)), ("GPU 0 gives no evidence: Not Supported",)),
    (gpus(Gpu(architecture=fake.ADA)), ("GPU 0 gives no evidence: its architecture (8) makes none",)),
    (gpus(Gpu(size=0)), ("GPU 0 gives no evidence: its report has a size of 0 bytes",)),
    (gpus(Gpu(size=0x2001)), ("GPU 0 gives no evidence: its report has a size of 8193 bytes",))])
def test_what_gives_none_is_a_note_and_no_fault(nvml: FakeNvml, notes: tuple[str, ...]) -> None:
    assert collect_devices(BOUND, nvml) == Devices(notes=notes)


def test_a_real_gpu_that_is_not_in_confidential_mode() -> None:
    """It answers "Unknown Error" to a request for its report; its driver's mode says why."""
    real = fake.recorded("h200-not-confidential")
    with pytest.raises(fake.NVMLError, match="Unknown Error"):
        real.nvmlDeviceGetConfComputeGpuAttestationReport(0, BOUND)
    assert collect_devices(BOUND, real) == Devices(notes=("GPU 0 gives no evidence: it is not in confidential mode",))


@pytest.mark.parametrize(("multi_gpu", "status", "shown"), [(1, 0, 2), (0, 0, 0), (2, 0, 0), (1, 3, 0)])
def test_gpus_under_protected_pcie_make_reports_though_the_confidential_mode_is_off(multi_gpu: int, status: int,
                                                                                    shown: int) -> None:
    nvml = FakeNvml([Gpu(), Gpu()], confidential=0, multi_gpu=multi_gpu, settings_status=status)
    found = collect_devices(BOUND, nvml)
    assert (len(found.evidence), len(found.notes)) == (shown, 2 - shown)
    developer = FakeNvml([Gpu()], confidential=0, multi_gpu=multi_gpu, developer=1)
    assert "developer mode" in collect_devices(BOUND, developer).notes[0]


def test_one_that_refuses_does_not_hide_the_others() -> None:
    found = collect_devices(BOUND, gpus(Gpu(refuses=fake.NOT_SUPPORTED), Device()))
    assert (len(found.evidence), found.notes) == (1, ("GPU 0 gives no evidence: Not Supported",))


def test_a_binding_that_is_missing_broken_or_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert collect_devices(BOUND) == Devices()
    old = ModuleType("pynvml")
    for name, value in {"Init": None, "Shutdown": None, "SystemGetDriverVersion": b"450.1", "DeviceGetCount": 1,
                        "DeviceGetHandleByIndex": 0, "DeviceGetArchitecture": 9}.items():
        setattr(old, f"nvml{name}", lambda *words, value=value: value)
    monkeypatch.setitem(sys.modules, "pynvml", old)
    [note] = collect_devices(BOUND).notes
    assert "too old" in note


def test_the_document_has_devices_only_when_there_are_some() -> None:
    def ask(bound: bytes) -> Collected:
        return Collected("snp", bound)

    plain = document(BOUND, BOUND, ask, FakeNvml().ask)
    assert (plain["version"], "devices" in plain) == (1, False)
    refused = document(BOUND, BOUND, ask, gpus(Gpu(refuses=fake.NOT_SUPPORTED)).ask)
    assert (refused["version"], refused["note"]) == (1, "GPU 0 gives no evidence: Not Supported")
    none = document(BOUND, BOUND, lambda bound: None, gpus(Gpu(refuses=fake.NOT_SUPPORTED)).ask)
    assert str(none["note"]).startswith("unconfidential: ") and "GPU 0" in str(none["note"])
    full = json.loads(json.dumps(document(BOUND, BOUND, ask, gpus().ask)))
    assert full["version"] == 2
    assert [item["nonce"] for item in full["devices"]] == [bind(BOUND, BOUND).hex()]
