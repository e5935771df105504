"""One bad spec for each rule, and no rule without one: what is refused, with whose fault it is."""

from __future__ import annotations

import ast
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.libvirt.cases import chosen, facts, spoken, wish
from vmtool.errors import NotReady, Refused, VmtoolError
from vmtool.findings import wrong_input
from vmtool.libvirt import check, launch_check
from vmtool.libvirt.facts import DomainFacts
from vmtool.libvirt.launch_check import check_domain
from vmtool.spec.runtime import Spec

LOCAL = {"name": "m", "path": "/m"}
HUB = {"name": "m", "source": "huggingface", "repository": "o/r"}


def gpu(machine: str, **more: Any) -> Spec:
    return wish("none", 1, libvirt={"machine": machine}, **more)


def encrypted(key: dict[str, Any], tee: str = "none", **libvirt: Any) -> Spec:
    return wish(tee, libvirt=libvirt, model=LOCAL | {"encryption": {"signer": "/s.jwk", "key": key}})


BROKER = {"broker": {"resource": "a/b/c", "url": "https://kbs:8443", "ca": "/ca.pem"}}
IMAGE = facts().known()
# What is wrong; the spec; the host; whose fault it is; what is told. Nothing else may be told.
BAD: list[tuple[str, Spec, DomainFacts, type[VmtoolError], str]] = [
    ("no image", wish(), facts(image=None, findings=(wrong_input("i", "name a guest image"),)), Refused,
     "name a guest image"),
    ("another architecture", wish("snp"), facts("snp", architecture="aarch64"), Refused,
     "spec.runtime.tee: snp exists on x86_64, the guest image is aarch64"),
    ("virtCCA on x86", wish("virtcca"), facts("virtcca", architecture="x86_64"), Refused, "virtcca exists on aarch64"),
    ("SNP without firmware", wish("snp", libvirt={"firmware": None}), facts("snp"), Refused,
     "spec.runtime.libvirt.firmware: snp measures the firmware"),
    ("TDX without firmware", wish("tdx", libvirt={"firmware": None}), facts("tdx"), Refused, "OVMF.inteltdx.fd"),
    ("an unused firmware", wish(libvirt={"firmware": "/f"}), facts(), Refused,
     "is not used when QEMU loads the kernel"),
    ("an unused firmware in virtCCA", wish("virtcca", libvirt={"firmware": "/f"}), facts("virtcca"), Refused,
     "is not used when QEMU loads the kernel"),
    ("a device tree that nothing measures", wish("snp", libvirt={"device_tree": "/t"}), facts("snp"), Refused,
     "spec.runtime.libvirt.device_tree: only virtCCA measures it"),
    ("a TPM that nothing measures into", wish(libvirt={"tpm": True}), facts(swtpm=True), Refused,
     "spec.runtime.libvirt.firmware: a firmware measures into the TPM"),
    ("a software TPM in a TEE", wish("snp", libvirt={"tpm": True}), facts("snp", swtpm=True), Refused,
     "it proves nothing of a guest in snp"),
    ("a TPM without swtpm", wish(libvirt={"tpm": True, "firmware": "/f"}), facts(), NotReady,
     "swtpm and swtpm_setup are not installed, which are the guest's TPM (apt-get install swtpm swtpm-tools)"),
    ("no firmware to boot", wish(boot="firmware", libvirt={"firmware": None}), facts(), Refused,
     "boot: firmware needs the path of one"),
    ("a kernel beside the firmware", wish("virtcca", boot="firmware", libvirt={"kernel": "/k"}), facts("virtcca"),
     Refused, "kernel and kernel_params do nothing with boot: firmware"),
    ("words beside the firmware", wish(boot="firmware", libvirt={"kernel_params": ["quiet"]}), facts(), Refused,
     "kernel and kernel_params do nothing with boot: firmware"),
    ("another machine than virtCCA's", wish("virtcca", libvirt={"machine": "virt"}), facts("virtcca"), Refused,
     "spec.runtime.libvirt.machine: virtcca has virt-8.2 only, not virt"),
    ("a GPU without PCI Express", gpu("microvm"), facts(), Refused, "microvm has no PCI Express"),
    ("a GPU by count", gpu("pc", resources={"accelerators": {"count": 1}}), facts(), Refused, "pc has no PCI Express"),
    ("a control character", wish(libvirt={"image": "/i/\x01"}), facts(), Refused,
     "spec.runtime.libvirt.image: '/i/\\x01' holds '\\x01', which a domain's description cannot"),
    ("no character of XML's", wish(libvirt={"kernel_params": ["a=\uffff"]}), facts(), Refused,
     "spec.runtime.libvirt.kernel_params: 'a=\\uffff' holds '\\uffff'"),
    ("a line break in the firmware", wish("snp", libvirt={"firmware": "/f\n"}), facts("snp"), Refused,
     "spec.runtime.libvirt.firmware: '/f\\n' holds '\\n'"),
    ("no libvirt", wish(), facts(libvirt=None), NotReady, "libvirt is not installed"),
    ("an old libvirt for SNP", wish("snp"), facts("snp", libvirt="10.4.0"), NotReady,
     "libvirt 10.4.0 cannot start a domain in snp: 10.5 is the first that can"),
    ("an old libvirt for TDX", wish("tdx"), facts("tdx", libvirt="11.5.0"), NotReady, "11.6 is the first that can"),
    ("a model of a hub", wish(model=HUB), facts(), Refused, "spec.model.source: a guest of libvirt's fetches no model"),
    ("a firmware boot", wish(boot="firmware"), facts(), Refused, "firmware is only rendered (vmtool libvirt render)"),
    ("too long a command line", wish(libvirt={"kernel_params": ["p" * 2048]}), facts(), Refused,
     "spec.runtime.libvirt.kernel_params: the guest's kernel command line has 2116 bytes"),
    ("a line break for vLLM", wish(vllm={"args": {"response-role": "a\nb"}}), facts(), Refused,
     "spec.vllm: '--response-role=a\\nb' holds a line break"),
    ("a file of this host", wish(vllm={"files": {"chat-template": "/t.jinja"}}), facts(), Refused,
     "spec.vllm.files: a libvirt guest shares no files with this host"),
    ("unverified disks in a TEE", wish("virtcca", libvirt={"verity": False}), facts("virtcca"), Refused,
     "spec.runtime.libvirt.verity: without it the host of a guest in virtcca could alter its disks"),
    ("an image without hashes", wish("virtcca"), facts("virtcca", image=replace(IMAGE, verity=None)), Refused,
     "spec.runtime.libvirt.image: /i/rootfs.img has no root hash"),
    ("no tool for verified disks", wish(libvirt={"verity": True}), facts(dmsetup=""), NotReady,
     "dmsetup and veritysetup for x86_64 are not installed"),
    ("a key from a file", encrypted({"file": "/k.jwk"}), facts(), Refused,
     "spec.model.encryption.key: a libvirt guest has its model's key from a broker that it reaches by an address"),
    ("a key from a data hub", encrypted({"broker": {"resource": "a/b/c"}}), facts(), Refused,
     "there is no data hub in it (write broker: with resource, url and ca, or handler: kata)"),
    ("a key for a TEE", encrypted(BROKER, "virtcca"), facts("virtcca"), Refused,
     "spec.runtime.tee: the workload of a libvirt guest cannot ask virtcca for evidence yet"),
    ("a key for disks that are not measured", encrypted(BROKER, tpm=True, firmware="/f"), facts(swtpm=True), Refused,
     "spec.runtime.libvirt.verity: without it the guest's TPM shows nothing of its disks"),
    ("no such device", wish(resources={"accelerators": {"bdf": ["0000:99:00.0"]}}), facts(), Refused,
     "0000:99:00.0"),
]

def problems(spec: Spec, on: DomainFacts) -> list[tuple[type[VmtoolError], str]]:
    about_devices = chosen(spec)
    return spoken([*check_domain(spec, on), *(about_devices.findings if about_devices else ())])


@pytest.mark.parametrize(("spec", "on", "kind", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_spec_is_told_by_its_rule_alone(spec: Spec, on: DomainFacts, kind: type[VmtoolError],
                                              message: str) -> None:
    about_devices = chosen(spec)
    found = [*check_domain(spec, on), *(about_devices.findings if about_devices else ())]
    # A firmware's boot is refused by itself, whatever else is wrong with it.
    told = spoken([item for item in found if item.id != launch_check.ONLY_RENDERED] or found)
    assert len(told) == 1, told
    assert message in told[0][1]
    assert told[0][0] is kind


def test_every_rule_has_a_bad_spec() -> None:
    """A rule is a `yield` of the two modules; which of them speaks, its generator's frame tells."""
    spoken = {place for _, spec, on, _, _ in BAD for place in speaking(check_domain(spec, on))}
    rules = {(file, first, last) for module in (check, launch_check) for file, first, last in yields(module.__file__)}
    silent = {rule for rule in rules if not any(rule[0] == file and rule[1] <= line <= rule[2]
                                                for file, line in spoken)}
    assert not silent, "write a bad spec for the rules at these lines"
    assert len(rules) > 15, "they were found at all"


def yields(file: str | None) -> Iterator[tuple[str, int, int]]:
    assert file
    for node in ast.walk(ast.parse(Path(file).read_text())):
        if isinstance(node, ast.Yield | ast.YieldFrom):
            yield file, node.lineno, node.end_lineno or node.lineno


def speaking(generator: Any) -> Iterator[tuple[str, int]]:
    """Where each of its problems comes from: the line of the innermost generator that waits, and of those around it."""
    for _ in generator:
        inner: Any = generator
        while isinstance(inner, Generator):
            frame = inner.gi_frame  # type: ignore[attr-defined]
            yield frame.f_code.co_filename, frame.f_lineno
            inner = inner.gi_yieldfrom  # type: ignore[attr-defined]


@pytest.mark.parametrize("tee", ["none", "virtcca", "snp", "tdx"])
def test_a_good_spec_is_not_complained_about(tee: str) -> None:
    assert problems(wish(tee, 2), facts(tee)) == []


def test_rules_speak_together() -> None:
    spec = wish("snp", 1, libvirt={"firmware": None, "machine": "isapc", "image": "/\x02"}, model=HUB)
    told = problems(spec, replace(facts("snp"), libvirt="9.0.0", architecture="aarch64"))
    assert len(told) == 6
    assert [text for kind, text in told if kind is NotReady] == [
        "libvirt 9.0.0 cannot start a domain in snp: 10.5 is the first that can"]


def test_a_libvirt_that_is_new_enough() -> None:
    for tee, version in (("snp", "10.5.0"), ("snp", "12.0"), ("tdx", "11.6.0"), ("virtcca", "6.2.0"), ("none", "6.0")):
        assert problems(wish(tee), facts(tee, libvirt=version)) == []
