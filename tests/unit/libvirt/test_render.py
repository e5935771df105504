"""Golden files for every combination; values that follow the request; whatever the spec holds comes out again."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.libvirt.cases import (
    BRIDGE,
    COMBINATIONS,
    FIRMWARE,
    GPUS,
    facts,
    name_of,
    text,
    wish,
)
from vmtool.errors import Refused, VmtoolError
from vmtool.libvirt import render as rendering
from vmtool.libvirt.domain import Disk, Domain, Kernel, Nic, Port, kernel_words
from vmtool.libvirt.launch_check import ONLY_RENDERED, check_domain
from vmtool.libvirt.render import read_back, render_domain
from vmtool.spec.runtime import Spec

GOLDEN = Path(__file__).parents[2] / "golden" / "libvirt"
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"
SECURITY = {"none": None, "virtcca": "cvm", "snp": "sev-snp", "tdx": "tdx"}
WORDS = ["console=ttyS0", "panic=-1", "net.ifnames=0", "systemd.unit=multi-user.target"]
VIRTCCA = ["console=ttyAMA0", *WORDS[1:], "swiotlb=262144,force", "cma=64M", "virtcca_cvm_guest=1", "cvm_guest=1",
           "kaslr.disabled=1"]


def golden(name: str, made: str) -> None:
    """Compare; with VMTOOL_WRITE_GOLDEN=1 write instead, for a person to look at the difference."""
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(made)
    assert (GOLDEN / name).read_text() == made


def parsed(name: str) -> ElementTree.Element:
    return ElementTree.fromstring((GOLDEN / f"{name}.xml").read_text())  # noqa: S314  (ours)


@pytest.mark.parametrize(("tee", "gpus", "boot"), COMBINATIONS)
def test_golden(tee: str, gpus: int, boot: str) -> None:
    spec = wish(tee, gpus, boot)
    golden(f"{name_of(tee, gpus, boot)}.xml", text(spec))
    assert text(spec) == text(Spec.model_validate_json(spec.model_dump_json()))
    told = [item.id for item in check_domain(spec, facts(tee))]
    assert told == ([ONLY_RENDERED] if boot == "firmware" else []), "a golden file shows what a launch may have"


def test_an_emulated_guest_and_an_ordinary_one_on_arm64() -> None:
    golden("none-emulated.xml", text(wish(), facts(accelerated=False)))
    golden("none-aarch64.xml", text(wish(), facts(architecture="aarch64", emulator="/usr/bin/qemu-system-aarch64")))
    for name, kind, cpu in (("none-emulated", "qemu", "maximum"), ("none-aarch64", "kvm", "host-passthrough")):
        cpu_element = parsed(name).find("cpu")
        assert parsed(name).get("type") == kind
        assert cpu_element is not None and cpu_element.get("mode") == cpu


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {
        name_of(*combination) for combination in COMBINATIONS} | {"none-emulated", "none-aarch64"}


@pytest.mark.parametrize(("tee", "gpus", "boot"), COMBINATIONS)
def test_what_the_golden_files_say(tee: str, gpus: int, boot: str) -> None:
    """Read with another reader's eyes than `read_back`, so that a mistake in both shows."""
    root = parsed(name_of(tee, gpus, boot))
    arm = tee == "virtcca"
    assert [root.findtext(name) for name in ("name", "memory", "vcpu", "devices/emulator")] == [
        "vmtool-chat", str(20 << 30), "4", "/usr/bin/qemu-system-" + ("aarch64" if arm else "x86_64")]
    machine = root.find("os/type")
    assert machine is not None and machine.get("machine") == ("virt-8.2" if arm else "q35")
    assert [root.findtext(f"os/{name}") for name in ("kernel", "initrd")] == (
        ["/s/domains/chat/kernel", "/s/domains/chat/initrd"] if boot == "kernel" else [None, None])
    assert (root.findtext("os/cmdline") or "").split() == ((VIRTCCA if arm else WORDS) if boot == "kernel" else [])
    loader = root.findtext("os/loader")
    assert loader == (FIRMWARE[tee] if boot == "firmware" or tee in ("snp", "tdx") else None)
    disks = [(each.findtext("serial"), each.find("readonly") is not None) for each in root.iter("disk")]
    assert disks == [("root", True), ("workload", True), ("model", True)]
    assert [address_of(each) for each in root.findall("devices/hostdev/source/address")] == list(GPUS[:gpus])
    assert {each.get("managed") for each in root.iter("hostdev")} <= {"no"}, "vmtool binds and releases itself"
    # Every virtio device of a confidential guest uses buffers that the host may see.
    drivers = [*root.findall("devices/disk/driver"), *root.findall("devices/controller[@type='virtio-serial']/driver"),
               *root.findall("devices/interface/driver"), *root.findall("devices/rng/driver")]
    assert [each.get("iommu") for each in drivers] == ([None] * 3 if tee == "none" else ["on"] * 6)


@pytest.mark.parametrize(("tee", "gpus", "boot"), COMBINATIONS)
def test_the_launch_security_of_the_golden_files(tee: str, gpus: int, boot: str) -> None:
    root = parsed(name_of(tee, gpus, boot))
    security = root.find("launchSecurity")
    assert (security.get("type") if security is not None else None) == SECURITY[tee]
    policy = int(root.findtext("launchSecurity/policy") or "0", 0)
    # SNP: bit 17 must be set, SMT (16) is allowed, debugging (19) and migration (18) are not. TDX: no debugging (0),
    # and SEPT_VE_DISABLE (28), QEMU's default, without which Linux refuses to boot.
    assert policy == {"snp": 1 << 16 | 1 << 17, "tdx": 1 << 28}.get(tee, 0)
    hashes = security.get("kernelHashes") if security is not None else None
    assert hashes == ("yes" if tee == "snp" and boot == "kernel" else None), "the kernel is measured by its hash"
    arguments = [each.get("value") for each in root.iter(f"{QEMU}arg")]
    guest = ["-object", "tmm-guest,id=tmm0,sve-vector-length=128,num-pmu-counters=1"] if tee == "virtcca" else []
    # Else the tree has random seeds, and no two starts the same measurement.
    guest += ["-machine", "dtb-randomness=off"] if tee == "virtcca" else []
    window = ["-fw_cfg", f"name=opt/ovmf/X-PciMmio64Mb,string={gpus * 262144}"] if gpus and loader(root) else []
    assert arguments == ["-action", "shutdown=poweroff", *guest, *window]


def loader(root: ElementTree.Element) -> str:
    return root.findtext("os/loader") or ""


def address_of(address: ElementTree.Element) -> str:
    domain, bus, slot, function = (address.get(name, "")[2:] for name in ("domain", "bus", "slot", "function"))
    return f"{domain}:{bus}:{slot}.{function}"


HOSTILE = "\"'<>&]]>\\\n\r\t\x00\x01\x0b\x7f\x85\xa0\u2028\ufeff\ufffe\uffff{}%#$ \U0001f984"
TEXT = st.text(max_size=60) | st.text(alphabet=HOSTILE, max_size=60)
PATH = TEXT.map(lambda name: f"/{name}")


@given(words=st.lists(TEXT | st.just("p" * 4096) | st.text(min_size=1000, max_size=4096), max_size=3), image=PATH,
       firmware=PATH, combination=st.sampled_from(COMBINATIONS))
def test_whatever_the_spec_holds_comes_out_again_or_is_refused(words: list[str], image: str, firmware: str,
                                                              combination: tuple[str, int, str]) -> None:
    tee, gpus, boot = combination
    libvirt = {"image": image, "kernel_params": words if boot == "kernel" else []}
    if boot == "firmware" or tee in ("snp", "tdx"):
        libvirt["firmware"] = firmware
    try:
        spec = wish(tee, gpus, boot, libvirt)
    except ValidationError as error:
        assert {detail["loc"][:3] for detail in error.errors()} == {("spec", "runtime", "libvirt")}
        return
    known = facts(tee).known()
    on = facts(tee, image=replace(known, path=Path(image)))
    problems = [item.text for item in check_domain(spec, on) if item.id != ONLY_RENDERED]
    if problems:
        assert all(told.startswith("spec.runtime.libvirt.") for told in problems)
        return
    made = text(spec, on)
    found = read_back(made)
    root = ElementTree.fromstring(made.encode())  # noqa: S314  (ours)
    assert found["disks"] == [(str(Path(image)), "root"), ("/s/domains/chat/workload.img", "workload"),
                              ("/s/domains/chat/model.img", "model")]
    assert loader(root) == (str(Path(firmware)) if "firmware" in libvirt else "")
    given_words = (root.findtext("os/cmdline") or "").split(" ")
    assert given_words == (list(kernel_words(on.architecture, tee, known.target, tuple(words)))
                           if boot == "kernel" else [""])


@given(name=TEXT, word=TEXT | st.just("p" * 4096), path=PATH)
def test_the_renderer_itself_loses_nothing_either(name: str, word: str, path: str) -> None:
    domain = Domain("vmtool-a", name, "x86_64", "q35", path, True, 1 << 30, 1, "none",
                    Kernel(Path(path), None, (word,)), None, (Disk(Path(path), "root"),), Nic("b", "52:54:00:0:0:1"),
                    Path(path), (Port("p", socket=Path(path)),))
    try:
        made = render_domain(domain)
    except Refused as error:
        assert "which a domain's description cannot" in error.message
        return
    root = ElementTree.fromstring(made.encode())  # noqa: S314  (ours)
    source = root.find("devices/disk/source")
    assert source is not None
    assert (root.findtext("title") or "", root.findtext("os/cmdline") or "", source.get("file")) == (
        name, word, str(Path(path)))


def test_a_command_line_that_linux_would_cut_off_is_refused() -> None:
    fits = 2047 - len(" ".join(WORDS)) - 1
    for size, problems in ((fits, 0), (fits + 1, 1)):
        spec = wish(libvirt={"kernel_params": ["p" * size]})
        assert len(list(check_domain(spec, facts()))) == problems
    assert len(text(wish(libvirt={"kernel_params": ["ä" * (fits // 2)]}))) > fits // 2


def test_a_template_that_changes_a_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rendering.read_back
    monkeypatch.setattr(rendering, "read_back", lambda made: real(made.replace(BRIDGE, "other")))
    with pytest.raises(VmtoolError) as error:
        text(wish())
    assert error.value.details == ("bridge: ['other'], asked for is ['vmt-chat']",)
