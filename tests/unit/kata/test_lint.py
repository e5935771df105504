"""At least one bad file for every rule; no finding where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.kata.cases import COMBINATIONS, edited, requested
from vmtool.errors import Refused
from vmtool.findings import Finding, failing
from vmtool.kata.base import known_base
from vmtool.kata.document import parse, read
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.rules import RULES
from vmtool.kata.lint.target import HostView, LintTarget
from vmtool.kata.render import render, write
from vmtool.spec.kata_releases import Release, release_of, releases

Q, A, R = "hypervisor.qemu.", "agent.kata.", "runtime."
VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"
NOTHING_THERE = HostView(exists=lambda path: False)
# Rule, release, TEE that the file was rendered for, GPUs, what is changed in it, further words of the target.
BAD: list[tuple[str, str, str, int, dict[str, Any], dict[str, Any]]] = [
    ("key.unknown", "4.1", "none", 0, {Q + "confidental_guest": True}, {}),
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
    ("tee.combination", "4.1", "tdx", 0, {}, {"release": release_of("3.15-virtcca"), "asked": "tdx"}),
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
    ("key.other-release", "4.1", "none", 0, {Q + "hotplug_vfio_on_root_bus": True}, {}),
    ("key.other-hypervisor", "4.1", "none", 0, {Q + "jailer_path": "/j"}, {}),
    ("section.scalar", "4.1", "none", 0, {"runtime": 3}, {}),
    ("section.scalar", "4.1", "none", 0, {"hypervisor.qemu": 3}, {}),
    ("section.ignored", "4.1", "none", 0, {"agent": 3}, {}),
    ("hypervisor.unknown", "4.1", "none", 0, {"hypervisor.xen.path": "/x"}, {}),
    ("hypervisor.several", "4.1", "none", 0, {"hypervisor.clh.path": "/x"}, {}),
    ("agent.several", "4.1", "none", 0, {"agent.other.dial_timeout": 3}, {}),
    ("type.wrong", "4.1", "none", 0, {Q + "image": {"x": 1}}, {}),
    ("type.wrong", "CC-0.8.0", "none", 0, {Q + "default_vcpus": 1.5}, {}),
    ("type.range", "CC-0.8.0", "none", 0, {Q + "default_vcpus": 1 << 31}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_vcpus": 16777216}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_vcpus": float("inf")}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_vcpus": 3.5e38}, {}),
    ("type.range", "4.1", "none", 0, {Q + "default_maxmemory": 1 << 63}, {}),
    ("type.range", "4.1", "none", 0, {Q + "zzz": 1 << 63}, {}),
    ("type.range", "4.1", "none", 0, {R + "create_container_timeout": -(1 << 63) - 1}, {}),
    ("value.enum", "4.1", "none", 0, {R + "internetworking_model": "l2bridging"}, {}),
    ("value.enum", "3.30", "none", 0, {R + "emptydir_mode": "block-plain"}, {}),
    ("value.enum", "4.1", "none", 0, {R + "emptydir_mode": "tmpfs"}, {}),
    ("value.enum", "4.1", "none", 0, {R + "experimental": ["force_guest_pull"]}, {}),
    ("value.enum", "3.15", "none", 0, {Q + "extra_monitor_socket": "tcp"}, {}),
    ("value.sectors", "3.30", "none", 0, {Q + "block_device_logical_sector_size": 1000}, {}),
    ("value.sectors", "4.1", "none", 0, {Q + "block_device_physical_sector_size": 131072}, {}),
    ("value.sectors", "4.1", "none", 0, {Q + "block_device_logical_sector_size": 4096,
                                         Q + "block_device_physical_sector_size": 512}, {}),
    ("value.netns", "4.1", "none", 0, {R + "disable_new_netns": True}, {}),
    ("value.template", "4.1", "none", 0, {"factory.enable_template": True}, {}),
    ("value.extension", "4.1", "none", 0, {Q + "guest_extension_images": [{"path": "/x"}]}, {}),
    ("value.extension", "4.1", "none", 0, {Q + "guest_extension_images": [{"name": "x", "path": ""}]}, {}),
    ("value.extension", "4.1", "none", 0, {Q + "guest_extension_images": [{"name": "x", "path": "/x"}] * 2}, {}),
    ("value.extension", "4.1", "none", 0, {Q + "guest_extension_images": [
        {"name": "x", "path": "/x", "verity_params": "root_hash=ab"}]}, {}),
    ("value.bind-mounts", "4.1", "none", 0, {R + "sandbox_bind_mounts": ["/a/x", "/b/x/"]}, {}),
    ("value.numa", "4.1", "none", 0, {Q + "enable_numa": True, Q + "numa_mapping": ["0", "1"]}, {}),
    ("asset.virtiofsd-unset", "4.1", "none", 0, {Q + "virtio_fs_daemon": ""}, {}),
    ("asset.placeholder", "4.1", "none", 0, {Q + "path": "PLACEHOLDER"}, {}),
    ("asset.absent", "4.1", "none", 0, {R + "sandbox_bind_mounts": ["/a"]},
     {"host": HostView(exists=lambda path: path != "/a")}),
    ("late.verity-params", "4.1", "none", 0, {Q + "kernel_verity_params": VERITY.replace("=9", "= 9")}, {}),
    ("late.machine-type", "4.1", "none", 0, {Q + "machine_type": "virt"}, {}),
    ("late.machine-type", "3.15-virtcca", "none", 0, {Q + "machine_type": "q35"}, {}),
    ("late.machine-type", "4.1", "none", 0, {Q + "machine_type": "pseries"}, {}),
    ("late.vcpus", "4.1", "none", 0, {Q + "default_maxvcpus": 3}, {}),
    ("late.vhost-user", "4.1", "none", 0, {Q + "enable_vhost_user_store": True}, {}),
    ("late.snp-id", "4.1", "snp", 0, {Q + "snp_id_block": "YQ=="}, {}),
    ("late.snp-id", "3.15", "snp", 0, {Q + "snp_id_auth": "YQ=="}, {}),
    ("late.firmware-volume", "4.1", "tdx", 1, {Q + "firmware_volume": "/v"}, {}),
    ("late.ports", "4.1", "none", 1, {}, {"gpus": 17}),
    ("late.hot-ports", "4.1", "none", 0, {Q + "hot_plug_vfio": "root-port", Q + "pcie_root_port": 2}, {"gpus": 3}),
    ("late.microvm", "4.1", "tdx", 0, {Q + "machine_type": "microvm"}, {}),
    ("late.viommu", "3.15-virtcca", "virtcca", 0, {Q + "enable_iommu": True}, {}),
    ("late.pflash", "3.15-virtcca", "virtcca", 0, {Q + "pflashes": ["/a"]}, {}),
    ("late.io-space", "4.1", "tdx", 1, {Q + "pcie_root_port": 16}, {}),
    ("hypervisor.unknown", "3.15", "none", 0, {"hypervisor": {"acrn": {"path": "/x"}}}, {}),
    ("hypervisor.unknown", "CC-0.8.0", "none", 0, {"hypervisor": {"stratovirt": {"path": "/x"}}}, {}),
    ("silent.template", "3.15", "snp", 0, {"factory.enable_template": True}, {}),
    ("silent.snp", "3.15", "snp", 0, {Q + "confidential_guest": False}, {}),
    ("silent.memory-most", "4.1", "none", 0, {Q + "default_maxmemory": 8192}, {}),
    ("silent.vcpus", "4.1", "none", 0, {Q + "default_vcpus": -1}, {}),
    ("silent.vcpus-most", "4.1", "none", 0, {Q + "default_maxvcpus": 241}, {}),
    ("silent.bridges", "4.1", "none", 0, {Q + "default_bridges": 0}, {}),
    ("silent.loglevel", "4.1", "none", 0, {Q + "hypervisor_loglevel": 4}, {}),
    ("silent.slots", "4.1", "none", 0, {Q + "memory_slots": 256}, {}),
    ("silent.negative", "4.1", "none", 0, {Q + "memory_offset": -1}, {}),
    ("silent.iothreads", "4.1", "none", 0, {Q + "enable_iothreads": True, Q + "block_device_driver": "virtio-blk"}, {}),
    ("silent.verity", "3.15", "snp", 0, {Q + "kernel_verity_params": VERITY}, {"release": release_of("4.1")}),
    ("silent.monitor", "4.1", "none", 0, {Q + "extra_monitor_socket": "hmp"}, {}),
    ("launch.selinux", "4.1", "none", 0, {Q + "disable_guest_selinux": None}, {}),
    ("launch.selinux", "CC-0.8.0", "virtcca", 1, {Q + "disable_guest_selinux": False}, {}),
    ("launch.seccomp", "4.1", "none", 0, {R + "disable_guest_seccomp": False}, {}),
    ("security.snp-policy", "4.1", "snp", 0, {Q + "snp_guest_policy": 0xb0000}, {}),
]


def found(release: str, tee: str, gpus: int, changes: dict[str, Any], more: dict[str, Any]) -> tuple[Finding, ...]:
    return lint(replace(LintTarget(edited(release, tee, gpus, changes), release_of(release)), **more))


@pytest.mark.parametrize(("rule", "release", "tee", "gpus", "changes", "more"), BAD,
                         ids=[f"{number}-{row[0]}" for number, row in enumerate(BAD)])
def test_a_bad_file(rule: str, release: str, tee: str, gpus: int, changes: dict[str, Any],
                    more: dict[str, Any]) -> None:
    before = {item.id for item in found(release, tee, gpus, {}, {})}
    findings = found(release, tee, gpus, changes, more)
    hits = [item for item in findings if item.id == rule]
    assert hits, [item.id for item in findings]
    assert rule not in before or rule in ("security.shared-fs", "security.measured-root")
    assert all(item.level == RULES[rule].level and item.detail and item.hint for item in hits)
    keys = {place.rpartition(".")[2] for place, value in changes.items() if value is not None}
    if len(keys) == 1 and rule not in ("tee.other", "section.unknown", "asset.root"):
        assert hits[0].place.partition(":")[2].isdecimal()


def test_every_rule_has_a_bad_file() -> None:
    assert {row[0] for row in BAD} | {"key.drop-in", "drop-in.table", "key.twice", "runtime-rs.go-key",
                                          "runtime-rs.unknown", "runtime-rs.go-value",
                                          "runtime-rs.swap"} == set(RULES)


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_what_is_rendered_has_no_finding_but_what_ctr_cannot_help(release: str, tee: str, gpu: bool) -> None:
    made = render(requested(release, tee, int(gpu)))
    expected = set() if tee == "none" else {"security.shared-fs"}
    if tee != "none" and not made.values["hypervisor.qemu"].get("initrd"):
        expected.add("security.measured-root")
    if (release, tee, gpu) == ("CC-0.8.0", "none", True):
        expected.add("key.other-release")  # as that release ships it
    assert {item.id for item in made.findings} == expected
    assert parse(made.text).section("hypervisor.qemu")["default_memory"] == 20480


@pytest.mark.parametrize("release", releases(), ids=lambda release: release.name)
def test_every_shipped_file_passes(release: Release) -> None:
    """As every release ships it for amd64 and arm64, other hardware's files and unfinished ones among it."""
    for arch, files in release.shipped.items():
        for name in files:
            base = known_base(release, name, arch, "/opt/kata")
            assert base is not None
            document = parse(write((name,), base.values, ()), name, release.toml, release.keys)
            assert not failing(lint(LintTarget(document, release))), (arch, name)


@pytest.mark.parametrize(("release", "changes"), [
    ("4.1", {R + "internetworking_model": "default"}), ("4.1", {R + "internetworking_model": ""}),
    ("4.1", {Q + "shared_fs": ""}), ("4.1", {Q + "cold_plug_vfio": ""}), ("4.1", {R + "emptydir_mode": "block-plain"}),
    ("4.1", {Q + "kernel_verity_params": f" {VERITY.replace(',', ', ')},"}), ("4.1", {Q + "default_vcpus": 1.5}),
    ("4.1", {Q + "memory_offset": -1}), ("4.1", {Q + "default_vcpus": float("nan")}), ("4.1", {Q + "zzz": {"a": 1}}),
    ("4.1", {Q + "Kernel": None, "RUNTIME.Vfio_Mode": "vfio"}),
    ("4.1", {"agent.mine.dial_timeout": 9, "agent.kata": None}),
    ("CC-0.8.0", {"image.provision": "x"}), ("CC-0.8.0", {Q + "machine_type": "virt"}), ("4.1", {"image.x": 1}),
    ("3.15", {Q + "block_device_logical_sector_size": 7}), ("4.1", {R + "experimental": []}), ("4.1", {"zzz": 1}),
    ("4.1", {Q + "enable_numa": True, Q + "numa_mapping": ["0"]}), ("4.1", {Q + "default_vcpus": -1}),
])
def test_what_kata_takes_is_no_error(release: str, changes: dict[str, Any]) -> None:
    findings = found(release, "none", 0, changes, {})
    assert not failing(findings), failing(findings)


@pytest.mark.parametrize(("release", "name", "level"), [
    ("4.1", "zzz_new", "fail"), ("4.3", "zzz_new", "warn"), ("4.2", "zzz_new", "warn"), ("3.28", "zzz_new", "warn"),
    ("3.32", "zzz_new", "warn"), ("4.2", "confidental_guest", "fail"), ("3.32", "confidental_guest", "fail"),
])
def test_what_a_row_does_not_know_may_be_new_in_a_release_that_it_stands_in_for(release: str, name: str, level: str
                                                                               ) -> None:
    [finding] = [item for item in found(release, "none", 0, {Q + name: True}, {}) if item.id == "key.unknown"]
    assert finding.level == level
    assert ("as far as" in finding.detail) == (level == "warn")


@pytest.mark.parametrize(("words", "open_"), [
    ([], False), (["enable_iommu"], False), (["default_vcpus", "default_memory"], False), (["^enable_iommu$"], False),
    (["kernel_params"], True), (["kern"], True), (["_path"], True), ([""], True), ([".*"], True), (["^path$"], True),
    (["^path"], True), (["ath$"], True), (["^ath$"], False), (["x|path"], True), (["\\w"], True), (["("], True),
    (["(([a-z_])+.)+[A-Z]([a-z_])+$"], True), (["^"], True), (["machine_acc"], True), (["KERNEL"], False),
])
def test_an_annotation_is_allowed_by_any_part_of_its_name(words: list[str], open_: bool) -> None:
    """As Kata's own documentation has it: "_path" allows jailer_path."""
    ids = {item.id for item in found("4.1", "none", 0, {Q + "enable_annotations": words}, {})}
    assert ("security.annotations" in ids) is open_


@pytest.mark.parametrize("name", ["clh", "firecracker", "stratovirt", "remote", "dragonball"])
def test_another_hypervisors_file_is_not_judged(name: str) -> None:
    text = f'[hypervisor.{name}]\npath = "/x"\nzzz = 1\n[agent.kata]\n[runtime]\nzzz = 1\n'
    assert not lint(LintTarget(parse(text), release_of("3.15")))


def test_letter_case_and_a_byte_order_mark_are_as_the_release_reads_them() -> None:
    release = release_of("4.1")
    text = "\ufeff[Hypervisor.qemu]\nPATH = 3\nDefault_Memory = 100\n[RUNTIME]\nvfio_mode = 'x'\n"
    findings = {item.id: item for item in lint(LintTarget(parse(text, "f", "1.1", release.keys), release))}
    assert findings["type.wrong"].place == "f:2"
    assert findings["silent.memory"].place == "f:3"
    assert findings["value.enum"].title == "runtime.vfio_mode"
    twice = "[hypervisor.qemu]\nPath = '/a'\npath = '/b'\n[Hypervisor.qemu]\nkernel = '/k'\n"
    found_twice = lint(LintTarget(parse(twice, "f", "1.1", release.keys), release))
    assert [item.place for item in found_twice if item.id == "key.twice"] == ["f:3", "f:4"]
    both = "[hypervisor.qemu]\npath = '/b'\n[runtime]\nvfio_mode = 'vfio'\n[Runtime]\nenable_debug = true\n"
    assert "key.twice" not in {item.id for item in lint(LintTarget(parse(both, "f", "1.1", release.keys), release))}
    chance = lint(LintTarget(parse(f"{both}VFIO_mode = 'guest-kernel'\n", "f", "1.1", release.keys), release))
    assert [item.title for item in chance if item.id == "key.twice"] == ["runtime.vfio_mode"]


def test_a_drop_in_must_have_the_very_names(tmp_path: Path) -> None:
    main, extra = tmp_path / "configuration.toml", tmp_path / "10"
    main.write_text(render(requested("4.1")).text)
    extra.write_text("[hypervisor.qemu]\nDefault_memory = 4096\n[Agent.kata]\ndial_timeout = 9\n"
                     "[RUNTIME]\nVFIO_mode = 'vfio'\n")
    release = release_of("4.1")
    findings = {item.id: item for item in lint(LintTarget(read(main, [extra], "1.1", release.keys), release))}
    assert findings["key.drop-in"].place == f"{extra}:2"
    assert findings["drop-in.table"].place == f"{extra}:3"
    assert set(findings) == {"key.drop-in", "drop-in.table"}, "of the runtime's table any case is read"


def test_toml_1_1_is_read_since_3_30() -> None:
    text = '[hypervisor.qemu]\nnuma_mapping = []\nx = {a = 1,\n}\n'
    assert parse(text, toml=release_of("3.30").toml).section("hypervisor.qemu")["x"] == {"a": 1}
    with pytest.raises(Refused, match=r"not TOML 1\.0"):
        parse(text, toml=release_of("3.15").toml)


def test_two_thousand_keys_are_judged_each() -> None:
    text = "[hypervisor.qemu]\n" + "\n".join(f'"key.{number}" = 1' for number in range(2000))
    findings = lint(LintTarget(parse(text, "f", "1.1", release_of("4.1").keys), release_of("4.1")))
    unknown = [item for item in findings if item.id == "key.unknown"]
    assert (len(unknown), unknown[-1].place) == (2000, "f:2001")


def test_dotted_and_quoted_keys_have_their_lines() -> None:
    text = "hypervisor.qemu.path = 3\n[hypervisor.\"qemu\".x]\n[ runtime ]  # [x]\n'vfio_mode' = 1\n"
    document = parse("[hypervisor]\nqemu.path = 3\n[runtime]\n'vfio_mode' = 1\n", "f", "1.1", release_of("4.1").keys)
    findings = lint(LintTarget(document, release_of("4.1")))
    wrong = {item.title: item.place for item in findings if item.id == "type.wrong"}
    assert wrong == {"hypervisor.qemu.path": "f:2", "runtime.vfio_mode": "f:4"}
    assert parse(text.replace("qemu.path", "clh.path"), "g").where("runtime", "vfio_mode") == "g:4"


def test_lines_are_those_of_the_file() -> None:
    text = '# one\n[hypervisor.qemu]\npath = """\nkernel = 1\n"""\nkernel = "/k"\nimage = 3\n'
    [wrong] = [item for item in lint(LintTarget(parse(text, "f.toml"), release_of("4.1"))) if item.id == "type.wrong"]
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
    main.write_text(render(requested("4.1")).text)
    extra.write_text('[hypervisor.qemu]\ndefault_memory = 100\nconfidental_guest = true\n[runtime]\nzzz = 1\n')
    findings = {item.id: item for item in lint(LintTarget(read(main, [extra]), release_of("4.1")))}
    assert findings["key.drop-in"].place == f"{extra}:3"
    assert findings["key.drop-in"].hint == "did you mean confidential_guest?"
    assert findings["silent.memory"].place == f"{extra}:2", "the drop-in has the last word"
    assert findings["key.unknown"].place == f"{extra}:5", "of the runtime's section the shim ignores it there too"


@pytest.mark.parametrize(("release", "tee", "changes"), [
    ("CC-0.8.0", "none", {Q + "extra_monitor_socket": "qmp"}), ("3.15", "snp", {Q + "snp_guest_policy": 0xB0000}),
    ("CC-0.8.0", "none", {Q + "pcie_root_port": 40}), ("3.15", "none", {R + "emptydir_mode": "x"}),
    ("3.15", "none", {Q + "enable_numa": True, Q + "numa_mapping": ["0", "1"]}),
    ("3.30", "none", {Q + "guest_extension_images": [{"name": ""}]}),
])
def test_a_key_that_the_release_does_not_read_breaks_no_other_rule(release: str, tee: str, changes: dict[str, Any]
                                                                  ) -> None:
    before = {item.id for item in found(release, tee, 0, {}, {})}
    after = {item.id for item in found(release, tee, 0, changes, {})}
    assert after - before == {"key.other-release"}
