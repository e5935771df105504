"""What a container says of its guest: it can contradict the request, and never proves a TEE."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes.proc import Container, Proc
from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import RECORD
from vmtool.claims import Claim
from vmtool.gpu import saved_state
from vmtool.instance.instance import InstanceRecord
from vmtool.kata.guest_claims import FILES, view_claims
from vmtool.machine import Output
from vmtool.paths import State
from vmtool.proof.devices import driver_claims, viable_claims

STATUS = """Name:\tpython3
Uid:\t65532\t65532\t65532\t65532
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
NoNewPrivs:\t1
Seccomp:\t2"""
SAID = {
    "/proc/cmdline": "root=/dev/dm-0 quiet initrd=initrd",
    "/proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu vme tdx_guest",
    "/proc/misc": "122 tdx_guest\n123 sev-guest",
    "/proc/devices": "Character devices:\n  1 mem\n240 tsi",
    "/proc/1/status": STATUS,
}
GPU = "0000:41:00.0"
WITH_GPU = replace(RECORD, devices=(GPU,))
LISTED = Output(0, "GPU 0: NVIDIA H100 (UUID: GPU-1)\n", "")


def claims(container: Container, record: InstanceRecord = RECORD, commandline: str = "root=/dev/dm-0 quiet",
           ) -> dict[str, Claim]:
    return {claim.id: claim for claim in view_claims(container, record, commandline)}


def test_what_fits_is_proven_by_the_guests_word_but_for_the_tee() -> None:
    found = claims(Container(SAID))
    assert {name: claim.verdict for name, claim in found.items()} == {
        "guest.tee": "not-checked", "guest.cmdline": "proven", "process.hardening": "proven"}
    assert all("not attested" in claim.evidence for claim in found.values())
    assert "/dev/sev-guest" in found["guest.tee"].evidence
    assert "no report of the guest was verified" in found["guest.tee"].evidence


@pytest.mark.parametrize(("file", "text", "tee", "claim"), [
    ("/proc/cmdline", "root=/dev/vda1 quiet", "snp", "guest.cmdline"),
    ("/proc/cmdline", "root=/dev/dm-0 quiet init=/bin/sh", "snp", "guest.cmdline"),
    ("/proc/cpuinfo", "flags\t\t: fpu vme", "tdx", "guest.tee"),
    ("/proc/1/status", STATUS.replace("Seccomp:\t2", "Seccomp:\t0"), "snp", "process.hardening"),
    ("/proc/1/status", STATUS.replace("65532", "0"), "snp", "process.hardening"),
])
def test_what_contradicts_the_wish_fails(file: str, text: str, tee: str, claim: str) -> None:
    found = claims(Container(SAID | {file: text}), replace(RECORD, tee=tee))
    assert {name for name, claim in found.items() if claim.verdict == "failed"} == {claim}


@pytest.mark.parametrize("said", [{}, {"/proc/misc": "1 x"}])
def test_what_the_container_cannot_see_is_not_checked(said: dict[str, str]) -> None:
    assert {claim.verdict for claim in claims(Container(said)).values()} == {"not-checked"}


@pytest.mark.parametrize(("answer", "verdict"), [
    (LISTED, "proven"), (Output(0, "No devices found\n", ""), "failed"),
    (Output(127, "", "nvidia-smi: not found"), "failed"), (None, "not-checked"),
])
def test_the_container_itself_must_see_its_gpu(answer: Output | None, verdict: str) -> None:
    container = Container(SAID | {FILES[-1]: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15"}, answer)
    found = claims(container, WITH_GPU)
    assert found["gpu.in-container"].verdict == verdict
    assert container.asked[1][-3:] == ("chat", "nvidia-smi", "-L")
    assert ("driver 570.86.15" in found["gpu.in-container"].evidence) == bool(answer and not answer.status)
    assert found["guest.hook"].verdict == "not-checked"


@pytest.mark.parametrize(("heard", "tee", "verdict"), [
    ("CC status: ON", "snp", "not-checked"), ("CC status: OFF", "tdx", "failed"),
    ("CC status: OFF", "virtcca", "not-checked"), ("", "snp", "not-checked"),
])
def test_the_gpus_mode_is_its_own_word_too(heard: str, tee: str, verdict: str) -> None:
    found = claims(Container(SAID, LISTED, Output(0, f"{heard}\n", "")), replace(WITH_GPU, tee=tee))
    assert found["gpu.cc-status"].verdict == verdict


def test_two_questions_have_two_names() -> None:
    container = Container(SAID, LISTED)
    claims(container, WITH_GPU)
    names = [argv[argv.index("--exec-id") + 1] for argv in container.asked]
    assert len(set(names)) == len(names) == 3


@pytest.mark.parametrize(("driver", "verdict"), [
    ("vfio-pci", "proven"), ("nvgrace_gpu_vfio_pci", "proven"), ("nvidia", "failed"), ("", "failed")])
def test_a_passed_device_must_be_on_vfio(driver: str, verdict: str) -> None:
    links = {f"/sys/bus/pci/devices/{GPU}/driver": f"../../../bus/pci/drivers/{driver}"} if driver else {}
    [claim] = driver_claims(Proc({}, links=links), WITH_GPU)
    assert claim.verdict == verdict
    assert not list(driver_claims(Proc({}), RECORD))


def test_what_the_kernel_said_at_the_bind_is_a_claim(tmp_path: Path) -> None:
    state, boot = State(tmp_path), {"/proc/sys/kernel/random/boot_id": "b1\n"}
    [bdf] = WITH_GPU.devices
    proofs = {str(saved_state.proofs(state)): [bdf]}

    def claim(text: str) -> tuple[str, str]:
        host = Recorded({"texts": boot | {f"{saved_state.proofs(state)}/{bdf}": text}, "names": proofs})
        [found] = viable_claims(host, WITH_GPU, state)
        return found.verdict, found.evidence

    assert claim("b1\nthe kernel gives it to a machine\n") == ("proven", f"{bdf}: the kernel gives it to a machine")
    assert claim("b0\nthe kernel gives it to a machine\n") == ("not-checked", f"not proven since the last boot: {bdf}")
    assert not list(viable_claims(Recorded({}), RECORD, state))
