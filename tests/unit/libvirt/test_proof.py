"""What is claimed about a guest of libvirt's: only what the arguments of the QEMU that runs show is proven, and the
guest's own word never proves a TEE."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.proc import Proc
from tests.unit.libvirt.cases import GPUS, facts, text, wish
from tests.unit.qemu.cases import argv
from vmtool.claims import unmet
from vmtool.engine.journal import JournalState
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.claims import read_claims
from vmtool.libvirt.proof import guest_claims, parse_report
from vmtool.machine import Output

X86, ARM = "/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-system-aarch64"
GPU = GPUS[0]
STATUS = """status Uid: 1000 1000 1000 1000
status CapPrm: 0000000000000000
status CapEff: 0000000000000000
status CapBnd: 0000000000000000
status NoNewPrivs: 1
status Seccomp: 2
"""
WORDS = "console=ttyS0 panic=-1 net.ifnames=0 systemd.unit=multi-user.target"
REPORT = f"kernel 6.12\ncmdline {WORDS}\nroot /dev/vda ext4 ro,relatime\nworkload active\n{STATUS}"
RIGHT = {"process.running": "proven", "tee": "not-checked", "vm.tee": "proven", "vm.kvm": "proven",
         "vm.no-debugger": "proven", "vm.devices": "proven", "vm.kernel": "proven", "vm.program": "proven",
         "configuration.unchanged": "proven",
         "image.digest": "not-checked", "image.bytes": "not-checked", "guest.tee": "not-checked",
         "guest.cmdline": "not-checked", "workload.hardening": "not-checked", "canary": "not-checked"}
# Here nobody bound them.
ON_THE_GPU = {"gpu.driver-on-host": "proven", "gpu.viable": "not-checked", "gpu.driver-in-guest": "not-checked"}


class Guest(Proc):
    """A /proc with QEMUs, and a guest whose agent gives one report; None: it does not answer."""

    report: str | None = None

    def run(self, argv: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        return Output(0, self.report, "") if "libvirt.guest_report" in argv and self.report is not None else None


def look(name: str, tee: str, *devices: str, report: str | None = None, description: str | None = None,
         others: dict[int, Any] | None = None, changes: dict[str, str] | None = None,
         processes: dict[int, Any] | None = None, **details: str) -> dict[str, str]:
    """The verdicts on a QEMU that has the arguments of a file, when a TEE and devices were asked for.

    Args:
        changes: of the arguments; description: what is found in the place of domain.xml, "" for nothing.
    """
    program = ARM if tee == "virtcca" else X86
    rendered = text(wish(tee, len(devices)))
    known = InstanceRecord("chat", "d", "libvirt", tee, "i", "m", "/c", True, "", 8000, "/n", "/r", 1, devices=devices,
                           details={"program": program, "kernel": "/s/domains/chat/kernel", "channel": "/run/a.sock",
                                    "rendered": "/s/domains/chat/domain.xml",
                                    "configuration": hashlib.sha256(rendered.encode()).hexdigest()})
    found = rendered if description is None else description
    links = {f"/sys/bus/pci/devices/{device}/driver": "../../bus/pci/drivers/vfio-pci" for device in devices}
    guest = Guest({9: (program, argv(name, **(changes or {})))} | (others or {}) if processes is None else processes,
                  {"/s/domains/chat/domain.xml": found} if found else {}, links)
    guest.report = report
    known = replace(known, details={**known.details, **details})
    instance = Instance("chat", Paths(Path("/s/instances/chat")), known, "running", 9, JournalState(state="applied"))
    claims = read_claims(guest, instance)
    assert {claim.verdict for claim in claims} <= {"proven", "failed", "not-checked"}
    return {claim.id: claim.verdict for claim in claims}


def failed(verdicts: dict[str, str]) -> set[str]:
    return {claim for claim, verdict in verdicts.items() if verdict == "failed"}


@pytest.mark.parametrize(("name", "tee", "devices"), [
    ("snp-libvirt", "snp", ()), ("snp-libvirt-gpu", "snp", (GPU,)), ("tdx-libvirt", "tdx", ()),
    ("virtcca-libvirt", "virtcca", ()), ("virtcca-libvirt-gpu", "virtcca", (GPU,)),
])
def test_the_guest_that_was_asked_for(name: str, tee: str, devices: tuple[str, ...]) -> None:
    assert look(name, tee, *devices) == RIGHT | (ON_THE_GPU if devices else {})


@pytest.mark.parametrize(("name", "devices"), [("none-libvirt", ()), ("none-libvirt-gpu", (GPU,))])
def test_an_ordinary_guest_is_never_called_confidential(name: str, devices: tuple[str, ...]) -> None:
    """`tee` fails although nothing was asked for; nothing else does, and that alone is as it was requested."""
    verdicts = look(name, "none", *devices)
    ordinary = {claim: verdict for claim, verdict in RIGHT.items() if claim != "vm.tee"}
    assert verdicts == ordinary | {"tee": "failed"} | (ON_THE_GPU if devices else {})


@pytest.mark.parametrize("tee", ["snp", "tdx", "virtcca"])
@pytest.mark.parametrize("name", ["none-libvirt", "snp-libvirt", "tdx-libvirt", "virtcca-libvirt",
                                  "stock-libvirt-arm64"])
def test_another_vm_than_the_tee_that_was_asked_for(name: str, tee: str) -> None:
    """The ordinary VM, another TEE's, and the one of a libvirt that ignores launchSecurity."""
    right = name.partition("-")[0] == tee
    assert look(name, tee)["vm.tee"] == ("proven" if right else "failed")


@pytest.mark.parametrize(("tee", "changes"), [
    ("snp", {",confidential-guest-support=lsec0": ""}), ("snp", {'"policy":196608': '"policy":720896'}),
    ("snp", {"sev-snp-guest": "sev-guest"}), ("tdx", {'"attributes":268435456': '"attributes":268435457'}),
    ("tdx", {"confidential-guest-support=lsec0": "confidential-guest-support=other"}),
    ("virtcca", {",kvm-type=cvm": ""}), ("virtcca", {"tmm-guest,": "other,"}),
])
def test_what_looks_like_the_tee_and_is_none(tee: str, changes: dict[str, str]) -> None:
    assert failed(look(f"{tee}-libvirt", tee, changes=changes)) == {"tee", "vm.tee"}


@pytest.mark.parametrize(("changes", "claim"), [
    ({"/s/domains/chat/kernel": "/tmp/kernel"}, "vm.kernel"), ({"0000:81:00.0": "0000:82:00.0"}, "vm.devices"),
    ({"mode=control": "mode=readline"}, "vm.no-debugger"), ({"-uuid": "-gdb"}, "vm.no-debugger"),
])
def test_one_thing_wrong_fails_one_claim(changes: dict[str, str], claim: str) -> None:
    assert failed(look("snp-libvirt-gpu", "snp", GPU, changes=changes)) == {claim}


def test_a_device_that_was_not_passed_on_or_not_asked_for() -> None:
    assert failed(look("snp-libvirt", "snp", GPU)) == {"vm.devices"}
    assert failed(look("snp-libvirt-gpu", "snp")) == {"vm.devices"}


def test_another_program_than_was_asked_for() -> None:
    assert failed(look("snp-libvirt", "snp", program="/opt/other/qemu-system-x86_64")) == {"vm.program"}


def test_emulation_is_told_where_it_was_rendered_and_fails_where_kvm_was_asked_for() -> None:
    emulated = text(wish(), facts(accelerated=False))
    own = hashlib.sha256(emulated.encode()).hexdigest()
    assert look("none-libvirt-tcg", "none", description=emulated, configuration=own)["vm.kvm"] == "not-checked"
    assert look("none-libvirt-tcg", "none")["vm.kvm"] == "failed"
    assert look("none-libvirt", "none", description=emulated, configuration=own)["vm.kvm"] == "proven"
    # A TEE exists with KVM only, whatever the description says.
    assert look("snp-libvirt", "snp", changes={"kvm": "tcg"}, description=emulated)["vm.kvm"] == "failed"


@pytest.mark.parametrize("processes", [{}, {8: (X86, argv("snp-libvirt"))}])
def test_without_the_launchs_own_qemu_nothing_is_proven(processes: dict[int, Any]) -> None:
    """The process 9 is the launch's; another one of that name and with those arguments is anybody's."""
    verdicts = look("snp-libvirt", "snp", processes=processes)
    assert verdicts["tee"] == "not-checked"
    assert not {claim for claim in verdicts if claim.startswith("vm.")}
    assert look("none-libvirt", "none", processes=processes)["tee"] == "failed"


def test_another_qemu_of_that_name_changes_nothing() -> None:
    assert look("none-libvirt", "snp", others={8: (X86, argv("snp-libvirt"))})["tee"] == "failed"
    assert look("snp-libvirt", "snp", others={8: (X86, argv("none-libvirt"))})["vm.tee"] == "proven"


def test_the_qemu_of_another_instance_is_not_looked_at() -> None:
    assert look("snp-libvirt", "snp", changes={"guest=vmtool-chat,": "guest=vmtool-chat2,"})["tee"] == "not-checked"


@pytest.mark.parametrize("description", ["<domain/>", "", "no XML"])
def test_a_description_that_was_changed_or_is_gone(description: str) -> None:
    assert failed(look("snp-libvirt", "snp", description=description)) == {"configuration.unchanged"}


def test_what_the_guest_says_is_held_against_the_wish() -> None:
    good = look("none-libvirt", "none", report=REPORT)
    assert {claim: good[claim] for claim in ("guest.tee", "guest.cmdline", "guest.root-read-only",
                                             "workload.hardening")} == {
        "guest.tee": "not-checked", "guest.cmdline": "proven", "guest.root-read-only": "proven",
        "workload.hardening": "proven"}


@pytest.mark.parametrize(("tee", "disks", "verdict"), [
    ("snp", "root workload model", "proven"), ("none", "root workload model", "proven"),
    ("snp", "root workload", "failed"), ("none", "root model", "failed"), ("snp", "", "failed"), ("none", "", None)])
def test_each_disk_is_read_through_its_root_hash(tee: str, disks: str, verdict: str | None) -> None:
    said = REPORT + "".join(f"dm {name} VERITY-{name}\n" for name in disks.split()) + "dm other CRYPT-PLAIN-other\n"
    report = said if tee == "none" else f"{said}node /dev/sev-guest\n"
    assert look(f"{tee}-libvirt", tee, report=report).get("guest.disks") == verdict


@pytest.mark.parametrize(("old", "new", "claim", "verdict"), [
    ("panic=-1", "panic=-1 init=/bin/sh", "guest.cmdline", "failed"), (f"cmdline {WORDS}\n", "", "guest.cmdline",
                                                                      "not-checked"),
    (f"{WORDS}\n", f"{WORDS} initrd=initrd\n", "guest.cmdline", "proven"),
    ("ro,relatime", "rw,relatime", "guest.root-read-only", "failed"),
    ("root /dev/vda ext4 ro,relatime\n", "", "guest.root-read-only", "failed"),
    ("CapEff: 0000000000000000", "CapEff: 00000000a80425fb", "workload.hardening", "failed"),
    ("NoNewPrivs: 1", "NoNewPrivs: 0", "workload.hardening", "failed"),
    ("Seccomp: 2", "Seccomp: 0", "workload.hardening", "failed"),
    ("Uid: 1000 1000 1000 1000", "Uid: 0 0 0 0", "workload.hardening", "failed"),
    ("Uid: 1000 1000 1000 1000", "Uid:  ", "workload.hardening", "failed"),
    ("status CapBnd: 0000000000000000\n", "", "workload.hardening", "failed"),
    (STATUS, "", "workload.hardening", "failed"),
])
def test_a_guest_that_says_otherwise(old: str, new: str, claim: str, verdict: str) -> None:
    assert old in REPORT
    assert look("none-libvirt", "none", report=REPORT.replace(old, new))[claim] == verdict


@pytest.mark.parametrize(("tee", "node"), [("snp", "/dev/sev-guest"), ("tdx", "/dev/tdx_guest"),
                                           ("virtcca", "/dev/tsi")])
def test_a_guest_never_proves_its_tee_but_can_contradict_it(tee: str, node: str) -> None:
    name = f"{tee}-libvirt"
    assert look(name, tee, report=f"{REPORT}node {node}\n")["guest.tee"] == "not-checked"
    assert look(name, tee, report=REPORT)["guest.tee"] == "failed"
    assert look(name, tee, report=f"{REPORT}node /dev/other\n")["guest.tee"] == "failed"


@pytest.mark.parametrize(("said", "verdict"), [
    ("pci 0000:01:00.0 0x10de:0x2330 nvidia\n", "proven"), ("pci 0000:01:00.0 0x10de:0x2330 \n", "failed"),
    ("pci 0000:01:00.0 0x10de:0x2330 nouveau\n", "failed"), ("", "failed"),
    ("pci 0000:01:00.0 0x10de:0x2330 nvidia\npci 0000:02:00.0 0x10de:0x2330 \n", "failed"),
])
def test_every_display_device_of_the_guest_must_have_the_driver(said: str, verdict: str) -> None:
    assert look("none-libvirt-gpu", "none", GPU, report=REPORT + said)["gpu.driver-in-guest"] == verdict


@pytest.mark.parametrize(("said", "verdict"), [
    ("library libcuda.so.1\nlibrary libnvidia-ml.so.1\n", "proven"), ("library libnvidia-ml.so.1\n", "failed"),
    ("", "failed"),
])
def test_the_workload_must_have_the_drivers_library(said: str, verdict: str) -> None:
    assert look("none-libvirt-gpu", "none", GPU, report=REPORT + said)["gpu.libraries"] == verdict


@pytest.mark.parametrize(("said", "verdict"), [
    ("hook vmtool-hook: container=a status=0\n", "proven"), ("hook vmtool-hook: container=a status=1\n", "failed"),
    ("hook vmtool-hook: container=a status=0\nhook vmtool-hook: container=b status=127\n", "failed"), ("", None),
])
def test_the_hooks_trace(said: str, verdict: str | None) -> None:
    assert look("none-libvirt", "none", report=REPORT + said).get("guest.hook") == verdict


def test_the_version_of_the_guests_driver_is_told() -> None:
    record = InstanceRecord("chat", "d", "libvirt", "none", "i", "m", "/c", True, "", 8000, "/n", "/r", 1,
                            devices=(GPU,))
    report = parse_report(f"{REPORT}pci 0000:06:00.0 0x10de:0x2330 nvidia\nmodule nvidia 535.261.03\n")
    [told] = [claim.evidence for claim in guest_claims(report, record, text(wish())) if "driver" in claim.id]
    assert told.endswith("(0000:06:00.0 0x10de:0x2330 nvidia; module nvidia 535.261.03)")


def test_the_confidential_mode_of_a_gpu_is_only_told() -> None:
    report = f"{REPORT}cc CC status: ON\n"
    assert look("none-libvirt-gpu", "none", GPU, report=report)["gpu.cc-status"] == "not-checked"


def test_a_failed_tee_is_unmet_only_when_it_was_asked_for() -> None:
    record = InstanceRecord("chat", "d", "libvirt", "none", "i", "m", "/c", True, "", 8000, "/n", "/r", 1)
    claims = tuple(guest_claims(parse_report(REPORT.replace("Seccomp: 2", "Seccomp: 0")), record, text(wish())))
    assert unmet(claims, confidential=False) == ["workload.hardening"]


@given(report=st.text(max_size=300) | st.lists(st.sampled_from(
    [*REPORT.splitlines(), "node /dev/sev-guest", "pci", "pci a b nvidia", "hook", "cc", "status", "status Uid: x",
     "status :", "end", "root", "cmdline"])).map("\n".join), tee=st.sampled_from(["none", "snp", "tdx", "virtcca"]))
def test_whatever_the_guest_says_it_is_judged_and_proves_no_tee(report: str, tee: str) -> None:
    record = InstanceRecord("chat", "d", "libvirt", tee, "i", "m", "/c", True, "", 8000, "/n", "/r", 1, devices=(GPU,))
    verdicts = {claim.id: claim.verdict for claim in guest_claims(parse_report(report), record, text(wish()))}
    assert verdicts["guest.tee"] != "proven"
