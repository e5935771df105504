"""A TEE is one file: a made-up one that is put into the table is looked for, rendered, checked and proven."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.proc import Container
from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import RECORD, requested
from tests.unit.libvirt.cases import facts, wish
from vmtool.architecture import ARM64
from vmtool.doctor.confidential import confidential_findings
from vmtool.doctor.guests import guest_findings
from vmtool.doctor.host import HostFacts, read_host
from vmtool.facts.cpu import CpuFacts
from vmtool.facts.kvm import KvmFacts
from vmtool.findings import lines
from vmtool.kata.check import check_host, check_request
from vmtool.kata.facts import GuestFacts, read_target
from vmtool.kata.guest_claims import view_claims
from vmtool.kata.kernel_params import change_kernel_params
from vmtool.kata.lint_target import read_host_view
from vmtool.kata.render import render_kind
from vmtool.kata.request import KataRequest
from vmtool.libvirt import check as libvirt_check
from vmtool.libvirt.domain import Domain, Kernel, kernel_words, machine_of
from vmtool.libvirt.initramfs_files import guest_files
from vmtool.libvirt.render import render_domain
from vmtool.machine import Reader
from vmtool.qemu.actions import ExpectTee
from vmtool.qemu.arguments import parse_arguments
from vmtool.qemu.claims import tee_claims
from vmtool.spec.runtime import Body
from vmtool.tee.table import BY_NAME, NONE, TEE_NAMES, tee_of
from vmtool.tee.tee import KataTee, KernelNeeds, LibvirtTee, QemuTee, Tee, TeeSupport

SEEN = TeeSupport(False, ("no realm management monitor",))


def look(reader: Reader, cpu: CpuFacts, kvm: KvmFacts) -> TeeSupport:
    return SEEN


NEW = Tee(
    "new", "The New One", ARM64, "turn it on", look, "/dev/new-guest",
    QemuTee("new-guest", debugging="attributes", debug_bits=4),
    KataTee("4.1", guest_word="new_guest=1", least_memory=2 << 30, most_devices=3),
    LibvirtTee("new", policy="0x7", since=(99, 1), machine="virt-99", kernel_words=("new_guest=1",), ioapic="new",
               private_memory=True, object="new-helper,id=n"),
    host_node="new", cpu_flag="new_flag", measures_firmware=True, needs_iommu=True, encrypts_gpu_link=True,
    kernel=KernelNeeds((("new_host", "1"),), "NEW-9", "9.9", 4096, "CONFIG_NEW"))


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BY_NAME, NEW.name, NEW)


def wanted(gpus: int = 0, **resources: Any) -> KataRequest:
    """What a spec would ask for, if its form had the name; a release has a configuration for it without GPUs."""
    made = requested("4.1", NONE, gpus, **resources)
    row = dataclasses.replace(made.release, configurations={**made.release.configurations, NEW.name: "qemu"})
    return dataclasses.replace(made, body=confidential(made.body), arch=ARM64.machine, release=row)


def confidential(body: Body) -> Body:
    return body.model_copy(update={"runtime": body.runtime.model_copy(update={"tee": NEW.name})})


def host() -> HostFacts:
    return read_host(Recorded.load("kunpeng-virtcca"), "/var/lib/vmtool")


def test_the_names_of_specs_and_options_are_those_of_the_table() -> None:
    known = [name for name in BY_NAME if name != NEW.name]
    assert (NONE, *known) == TEE_NAMES
    assert [name for name in TEE_NAMES if tee_of(name) is None] == [NONE]
    for name in known:
        assert (Path(__file__).parents[3] / "vmtool" / "tee" / f"{name}.py").is_file()


def test_the_host_is_looked_at_and_judged() -> None:
    found_here = host()
    assert found_here.tee[NEW.name] == SEEN
    found = {item.id: item for item in confidential_findings(found_here, "new")}  # type: ignore[arg-type]
    assert (found["tee.new"].level, found["tee.new"].title, found["tee.new"].hint) == ("fail", NEW.title, NEW.hint)
    assert found["kernel.cmdline.new"].hint.endswith("new_host=1")
    assert found["kernel.release"].hint.startswith("The New One's patches are known for the NEW-9 branch")
    bare = dataclasses.replace(found_here, iommu=dataclasses.replace(found_here.iommu, groups=0))
    assert {item.id: item.level for item in guest_findings(bare, "kata", "new")}["iommu.groups"] == (  # type: ignore[arg-type]
        "fail")
    recorded = Recorded.load("kunpeng-virtcca")
    assert (read_host_view(recorded, read_target(recorded)).tee or {})[NEW.name] is False


def test_kata_has_its_words_and_bounds() -> None:
    made = wanted()
    assert change_kernel_params(made, "a=1")[0] == "a=1 new_guest=1 swiotlb=262144,force"
    assert 'KERNEL=="new", GROUP="kvm"' in render_kind("udev", made)
    told = "\n".join(lines(check_request(wanted(4, memory="1Gi"))))
    assert "Kata 4.1 has no new with GPUs" in told
    assert "The New One takes at least 2 GiB of secure memory for each VM" in told
    assert "4 devices, but The New One takes 3 at most" in told
    x86 = dataclasses.replace(read_target(Recorded.load("epyc-snp")), arch="x86_64")
    guest = GuestFacts(None, "", "", None, None, ())
    assert "new needs aarch64, but this host is x86_64" in "\n".join(lines(check_host(made, x86, guest)))


def test_libvirt_has_its_element_machine_words_and_bounds() -> None:
    domain = Domain("n", "t", "aarch64", machine_of("aarch64", "new", None), "/q", True, 1 << 30, 1, "new",
                    Kernel(Path("/k"), None, kernel_words("aarch64", "new", "x.target", ())), Path("/f.fd"), (), None,
                    Path("/c"))
    root = ElementTree.fromstring(render_domain(domain))  # noqa: S314  (ours)
    security = root.find("launchSecurity")
    assert security is not None and (security.get("type"), security.findtext("policy")) == ("new", "0x7")
    kind, apic, loader = root.find("os/type"), root.find("features/ioapic"), root.find("os/loader")
    assert kind is not None and kind.get("machine") == "virt-99"
    assert apic is not None and apic.get("driver") == "new"
    assert loader is not None and loader.get("type") == "rom"
    assert root.find("memoryBacking/source") is not None
    assert "new_guest=1" in (root.findtext("os/cmdline") or "").split()
    assert "new-helper,id=n" in render_domain(domain)
    told = lines(libvirt_check.check_request(confidential(wish().spec), "x86_64", "99.0.1"))
    assert "spec.runtime.tee: new exists on aarch64, the guest image is x86_64" in told
    assert any("new measures the firmware" in line for line in told)
    assert any("cannot start a domain in new: 99.1 is the first that can" in line for line in told)


@pytest.mark.parametrize(("words", "verdict", "told"), [
    ("-object new-guest,id=a -machine virt,confidential-guest-support=a", "not-checked", "-object new-guest,id=a"),
    ("-object new-guest,id=a -machine virt", "failed", "does not use the object"),
    ("-machine virt", "failed", "an ordinary VM, without -object new-guest"),
    ("-object new-guest,id=a,attributes=4 -machine virt,confidential-guest-support=a", "failed", "attributes let")])
def test_qemus_arguments_contradict_it_or_do_not(words: str, verdict: str, told: str) -> None:
    claim, _ = tee_claims(parse_arguments(["qemu", *words.split()]), NEW.name)
    assert claim.verdict == verdict
    assert told in claim.evidence


def test_a_look_by_hand_searches_for_its_object() -> None:
    assert ExpectTee("n", NEW.name, (), "", "", Path("/e")).shell().endswith("grep -e new-guest /e")


def test_the_guest_is_asked_for_its_node_and_flag() -> None:
    record = dataclasses.replace(RECORD, tee=NEW.name)
    said = {"/proc/misc": "1 new-guest", "/proc/cpuinfo": "flags : fpu", "/proc/cmdline": "quiet"}
    claim = {each.id: each for each in view_claims(Container(said), record, "")}["guest.tee"]
    assert (claim.verdict, "/dev/new-guest" in claim.evidence) == ("failed", True)
    assert "its processor lacks the flag new_flag" in claim.evidence
    files = guest_files(facts().known(), ("x",), (), devices=False, dmsetup="")
    nodes = " ".join(tee.guest_node for tee in BY_NAME.values())
    assert "/dev/tsi" in nodes and f"for node in {nodes}; do" in files["agent.sh"]
