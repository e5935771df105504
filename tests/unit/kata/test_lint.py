"""At least one bad file for every rule; no finding where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.kata.cases import COMBINATIONS, asked, edited
from vmtool.findings import Finding
from vmtool.kata.document import parse, read
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.rules import RULES, HostView, Subject
from vmtool.kata.render import render
from vmtool.spec.kata_releases import release_of

Q, A, R = "hypervisor.qemu.", "agent.kata.", "runtime."
VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"
NOTHING_THERE = HostView(exists=lambda path: False)
# Rule, release, TEE that the file was rendered for, GPUs, what is changed in it, further words of the subject.
BAD: list[tuple[str, str, str, int, dict[str, Any], dict[str, Any]]] = [
    ("key.unknown", "4.1", "none", 0, {Q + "confidental_guest": True}, {}),
    ("key.unknown", "4.1", "none", 0, {Q + "hotplug_vfio_on_root_bus": True}, {}),
    ("key.other-release", "3.15", "none", 0, {Q + "kernel_verity_params": VERITY}, {}),
    ("key.other-release", "4.1", "none", 0, {Q + "file_mem_backend": ""}, {}),
    ("section.unknown", "4.1", "none", 0, {"hypervisr.qemu.path": "/q"}, {}),
    ("section.missing", "4.1", "none", 0, {"hypervisor": None}, {}),
    ("type.wrong", "4.1", "none", 0, {Q + "default_memory": "2048"}, {}),
    ("type.wrong", "4.1", "none", 0, {Q + "confidential_guest": 1}, {}),
    ("type.wrong", "4.1", "none", 0, {Q + "enable_annotations": "path"}, {}),
    ("type.wrong", "4.1", "none", 0, {A + "dial_timeout": 1.5}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_memory": 1 << 32}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_bridges": -1}, {}),
    ("value.enum", "4.1", "none", 0, {Q + "shared_fs": "nfs"}, {}),
    ("value.enum", "4.1", "none", 0, {Q + "block_device_driver": "ide"}, {}),
    ("value.enum", "4.1", "none", 0, {Q + "block_device_aio": "sync"}, {}),
    ("value.enum", "4.1", "none", 0, {Q + "cold_plug_vfio": "rootport"}, {}),
    ("value.enum", "4.1", "none", 0, {R + "vfio_mode": "host"}, {}),
    ("value.enum", "4.1", "none", 0, {R + "internetworking_model": "bridge"}, {}),
    ("asset.unset", "4.1", "none", 0, {Q + "kernel": ""}, {}),
    ("asset.unset", "4.1", "none", 0, {Q + "path": None}, {}),
    ("asset.root", "4.1", "none", 0, {Q + "initrd": "/i"}, {}),
    ("asset.root", "4.1", "none", 0, {Q + "image": ""}, {}),
    ("asset.absent", "4.1", "none", 0, {}, {"host": NOTHING_THERE}),
    ("asset.virtiofsd", "4.1", "none", 0, {}, {"host": NOTHING_THERE}),
    ("late.rootfs-type", "4.1", "none", 0, {Q + "rootfs_type": "btrfs"}, {}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": "root_hash=ab"}, {}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": VERITY.replace("=ab", "=xy")}, {}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": VERITY.replace("4096", "4095")}, {}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": VERITY + ",fec=1"}, {}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": VERITY.replace("=9", "=0")}, {}),
    ("late.machine-type", "4.1", "none", 0, {Q + "machine_type": "pc"}, {}),
    ("late.no-tee", "4.1", "snp", 0, {}, {"host": HostView(tee={"snp": False})}),
    ("silent.memory", "4.1", "none", 0, {Q + "default_memory": 255}, {}),
    ("silent.vcpus", "4.1", "none", 0, {}, {"host": HostView(cores=2)}),
    ("silent.ports", "4.1", "none", 1, {Q + "pcie_root_port": 17}, {}),
    ("silent.ports", "4.1", "none", 1, {Q + "pcie_switch_port": 17}, {}),
    ("silent.bridges", "4.1", "none", 0, {Q + "default_bridges": 6}, {}),
    ("silent.root-port", "4.1", "none", 0, {Q + "pcie_root_port": 2}, {}),
    ("host.memory", "4.1", "none", 0, {}, {"host": HostView(memory=20479)}),
    ("vfio.both", "4.1", "none", 1, {Q + "hot_plug_vfio": "root-port"}, {}),
    ("vfio.no-port", "4.1", "none", 0, {}, {"gpus": 1}),
    ("vfio.hot-plug", "4.1", "snp", 1, {Q + "hot_plug_vfio": "root-port", Q + "cold_plug_vfio": "no-port"}, {}),
    ("vfio.hook", "CC-0.8.0", "virtcca", 1, {Q + "guest_hook_path": ""}, {}),
    ("vfio.cgroup", "4.1", "snp", 1, {R + "sandbox_cgroup_only": False}, {}),
    ("tee.not-confidential", "4.1", "none", 0, {}, {"asked": "snp"}),
    ("tee.other", "4.1", "snp", 0, {Q + "sev_snp_guest": False}, {"asked": "snp"}),
    ("tee.other", "4.1", "tdx", 0, {}, {"asked": "none"}),
    ("tee.combination", "4.1", "tdx", 0, {}, {"release": release_of("3.15-virtcca")}),
    ("tee.silent-vm", "3.15-virtcca", "virtcca", 0, {}, {"release": release_of("3.15")}),
    ("tee.firmware", "4.1", "snp", 0, {Q + "firmware": ""}, {}),
    ("tee.static", "4.1", "tdx", 0, {R + "static_sandbox_resource_mgmt": False}, {}),
    ("tee.hotplug", "4.1", "tdx", 0, {Q + "enable_virtio_mem": True}, {}),
    ("tee.template", "4.1", "tdx", 0, {"factory.enable_template": True}, {}),
    ("tee.virtcca-params", "3.15-virtcca", "virtcca", 0, {Q + "kernel_params": ""}, {}),
    ("tee.virtcca-repeated", "CC-0.8.0", "virtcca", 0, {Q + "kernel_params": "virtcca_cvm_guest=1"}, {}),
    ("params.length", "4.1", "none", 0, {Q + "kernel_params": "a" * 1648}, {}),
    ("params.control", "4.1", "none", 0, {Q + "kernel_params": "a\nb"}, {}),
    ("params.repeated", "4.1", "none", 0, {Q + "kernel_params": "root=/dev/vda root=/dev/vdb"}, {}),
    ("timeout.dial", "4.1", "tdx", 0, {A + "dial_timeout": 60}, {}),
    ("launch.pod-resources", "4.1", "none", 0, {R + "pod_resource_api_sock": "/k.sock"}, {}),
    ("security.debug-console", "4.1", "none", 0, {A + "debug_console_enabled": True}, {}),
    ("security.debug-params", "4.1", "none", 0, {Q + "kernel_params": "agent.debug_console_vport=1026"}, {}),
    ("security.debug-params", "4.1", "none", 0, {Q + "kernel_params": "init=/bin/zsh"}, {}),
    ("security.devtools", "4.1", "none", 0, {Q + "kernel_params": "nvrc.cc=devtools"}, {}),
    ("security.shared-fs", "4.1", "tdx", 0, {}, {}),
    ("security.shared-fs", "4.1", "tdx", 0, {Q + "shared_fs": None}, {}),
    ("security.annotations", "4.1", "none", 0, {Q + "enable_annotations": ["kernel_params"]}, {}),
    ("security.annotations", "4.1", "none", 0, {Q + "enable_annotations": [".*"]}, {}),
    ("security.measured-root", "4.1", "tdx", 0, {}, {}),
    ("security.memory-dump", "4.1", "tdx", 0, {Q + "guest_memory_dump_path": "/var/crash"}, {}),
    ("security.monitor", "4.1", "none", 0, {Q + "extra_monitor_socket": "hmp"}, {}),
    ("security.debug-log", "4.1", "none", 0, {A + "enable_debug": True}, {}),
    ("security.password", "4.1", "none", 0, {R + "jaeger_password": "x"}, {}),
]


def found(release: str, tee: str, gpus: int, changes: dict[str, Any], more: dict[str, Any]) -> tuple[Finding, ...]:
    return lint(replace(Subject(edited(release, tee, gpus, changes), release_of(release)), **more))


@pytest.mark.parametrize(("rule", "release", "tee", "gpus", "changes", "more"), BAD,
                         ids=[f"{number}-{row[0]}" for number, row in enumerate(BAD)])
def test_a_bad_file(rule: str, release: str, tee: str, gpus: int, changes: dict[str, Any],
                    more: dict[str, Any]) -> None:
    before = {item.id for item in found(release, tee, gpus, {}, {})}
    findings = found(release, tee, gpus, changes, more)
    hits = [item for item in findings if item.id == rule]
    assert hits, [item.id for item in findings]
    assert rule not in before or rule in ("security.shared-fs", "security.measured-root")
    assert all(item.level == RULES[rule][0] and item.detail and item.hint for item in hits)
    keys = {place.rpartition(".")[2] for place, value in changes.items() if value is not None}
    if len(keys) == 1 and rule not in ("tee.other", "section.unknown", "asset.root"):
        assert hits[0].place.partition(":")[2].isdecimal()


def test_every_rule_has_a_bad_file() -> None:
    assert {row[0] for row in BAD} | {"key.drop-in"} == set(RULES)


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_what_is_rendered_has_no_finding_but_what_ctr_cannot_help(release: str, tee: str, gpu: bool) -> None:
    text, findings = render(asked(release, tee, int(gpu)))
    expected = set() if tee == "none" else {"security.shared-fs", "security.measured-root"}
    assert {item.id for item in findings} == expected
    assert parse(text).section("hypervisor.qemu")["default_memory"] == 20480


def test_lines_are_those_of_the_file() -> None:
    text = '# one\n[hypervisor.qemu]\npath = """\nkernel = 1\n"""\nkernel = "/k"\nimage = 3\n'
    [wrong] = [item for item in lint(Subject(parse(text, "f.toml"), release_of("4.1"))) if item.id == "type.wrong"]
    assert (wrong.place, wrong.title) == ("f.toml:7", "hypervisor.qemu.image")
    assert wrong.detail == "image is a number, not a string"


def test_the_worst_comes_first_and_places_are_in_order() -> None:
    findings = found("4.1", "tdx", 0, {Q + "zzz": 1, Q + "firmware": "", A + "enable_debug": True}, {})
    assert [item.level for item in findings] == sorted(
        (item.level for item in findings), key=["fail", "warn", "note"].index)
    lines = [int(item.place.partition(":")[2]) for item in findings if item.level == "fail"]
    assert lines == sorted(lines)


def test_drop_ins_are_merged_and_stricter(tmp_path: Path) -> None:
    main, extra = tmp_path / "configuration.toml", tmp_path / "10.toml"
    main.write_text(render(asked("4.1"))[0])
    extra.write_text('[hypervisor.qemu]\ndefault_memory = 100\nconfidental_guest = true\n[runtime]\nzzz = 1\n')
    findings = {item.id: item for item in lint(Subject(read(main, [extra]), release_of("4.1")))}
    assert findings["key.drop-in"].place == f"{extra}:3"
    assert findings["key.drop-in"].hint == "did you mean confidential_guest?"
    assert findings["silent.memory"].place == f"{extra}:2", "the drop-in has the last word"
    assert findings["key.unknown"].place == f"{extra}:5", "of the runtime's section the shim ignores it there too"
