"""Kata's Rust runtime: recognised, its files checked as far as they are known, and nothing rendered for it."""

from __future__ import annotations

from dataclasses import replace

from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import body
from vmtool.doctor.guests import guest_findings
from vmtool.doctor.host import read_host
from vmtool.findings import failing, lines
from vmtool.kata.document import parse
from vmtool.kata.facts import Target
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.target import LintTarget
from vmtool.kata.request_facts import read_request
from vmtool.kata.shims import KataFacts, read_kata
from vmtool.spec.kata_releases import release_of

SHIM = "/usr/local/bin/containerd-shim-kata-v2"
HOST = Recorded({
    "names": {"/usr/local/bin": ["containerd-shim-kata-v2"]},
    "outputs": {f"{SHIM} --version": {"out": 'Kata Containers containerd shim (Rust): id: "io.containerd.kata.v2", '
                                             'version: 4.1.0, commit: 1'}}})
FILE = """[hypervisor.qemu]
path = "/opt/kata/bin/qemu-system-x86_64"
enable_numa = true
seccomp_sandbox = ""
firmware_volume = ""
default_memory = "2048"
memory_pathh = ""
queue_size = 128
[agent.kata]
dial_timeout = 45
dial_timeout_ms = 45000
[agent.kata.mem_agent]
mem_agent_enable = true
[runtime]
name = "virt_container"
hypervisor_name = "qemu"
agent_name = "kata"
experimental = ["force_guest_pull"]
"""


def test_its_file_is_checked_as_far_as_keys_are_known() -> None:
    release = release_of("4.1")
    findings = lint(LintTarget(parse(FILE, "f", "1.1", release.keys), release))
    assert [(item.id, item.level, item.place) for item in findings] == [
        ("type.wrong", "fail", "f:6"), ("runtime-rs.go-key", "warn", "f:3"), ("runtime-rs.go-key", "warn", "f:5"),
        ("runtime-rs.unknown", "warn", "f:7"), ("runtime-rs.go-key", "warn", "f:10")]
    assert findings[-1].hint == "write dial_timeout_ms"
    assert findings[3].hint == "did you mean memory_path?"


def test_values_that_only_the_go_runtime_has() -> None:
    release = release_of("4.1")
    text = FILE.replace("queue_size", 'block_device_driver = "virtio-blk"\nenable_guest_swap = true\nqueue_size')
    findings = {item.id: item for item in lint(LintTarget(parse(text, "f", "1.1", release.keys), release))}
    assert (findings["runtime-rs.go-value"].place, findings["runtime-rs.go-value"].hint) == (
        "f:8", 'write block_device_driver = "virtio-blk-pci"')
    assert (findings["runtime-rs.swap"].place, findings["runtime-rs.swap"].level) == ("f:9", "fail")
    good = text.replace('"virtio-blk"', '"virtio-scsi"').replace("swap = true", "swap = false")
    assert not {"runtime-rs.go-value", "runtime-rs.swap"} & {
        item.id for item in lint(LintTarget(parse(good, "f", "1.1", release.keys), release))}


def test_nothing_is_rendered_for_it_and_the_reason_is_given() -> None:
    target = Target("x86_64", None, None, read_kata(HOST, "x86_64"))
    found = read_request(HOST, body(), target)
    assert target.release is None
    for findings in (found.check_request(), found.check_host()):
        [message] = [line for line in lines(failing(findings)) if "runtime-rs" in line]
        assert message == (f"{SHIM} is Kata's Rust runtime (runtime-rs), for which vmtool renders no configuration yet "
                           "(use the Go shim of the same release: ln -sf /opt/kata/bin/containerd-shim-kata-v2 "
                           f"{SHIM})")
    named = read_request(HOST, body(kata={"version": "4.1"}), target)
    assert not named.check_request(), "a configuration for another host may be rendered here"


def test_doctor_knows_it() -> None:
    facts = read_host(Recorded.load("debian12-pvm"), "/s", guests=False)
    facts = replace(facts, kata=KataFacts(read_kata(HOST, "x86_64").shims, ()))
    found = {item.id: item for item in guest_findings(facts, "kata", "none")}
    assert "runtime-rs" in found["kata.shim"].detail
    assert found["kata.runtime-rs.kata"].level == "warn"
