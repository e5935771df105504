"""Golden files for every combination; values that follow the request; whatever the spec holds comes out again."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kata.cases import COMBINATIONS, requested
from vmtool.errors import VmtoolError
from vmtool.kata.document import read, sections
from vmtool.kata.kernel_params import swiotlb_slabs
from vmtool.kata.lint.lint import lint
from vmtool.kata.lint.target import LintTarget
from vmtool.kata.render import render, render_drop_in, render_kind, write
from vmtool.kata.request import KataRequest
from vmtool.qemu.timeouts import create_seconds, dial_seconds
from vmtool.rendering import to_toml

GOLDEN = Path(__file__).parents[2] / "golden" / "kata"
VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"


def golden(name: str, text: str) -> None:
    """Compare; with VMTOOL_WRITE_GOLDEN=1 write instead, for a person to look at the difference."""
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert (GOLDEN / name).read_text() == text


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_golden(release: str, tee: str, gpu: bool) -> None:
    text = render(requested(release, tee, int(gpu))).text
    golden(f"{release}-{tee}{'-gpu' * gpu}.toml", text)
    assert render(requested(release, tee, int(gpu))).text == text


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.toml")} == {
        f"{release}-{tee}{'-gpu' * gpu}" for release, tee, gpu in COMBINATIONS} | {"handler"}


@pytest.mark.parametrize(("kind", "name"), [("handler", "handler.toml"), ("runtimeclass", "runtimeclass.yaml"),
                                            ("udev", "udev.rules")])
def test_golden_beside_the_configuration(kind: str, name: str) -> None:
    golden(name, render_kind(kind, requested("4.1", "snp", 1)))


def test_the_runtimeclass_is_yaml_and_counts_what_the_vm_takes() -> None:
    import yaml

    value = yaml.safe_load(render_kind("runtimeclass", requested("4.1", "snp", 1)))
    assert (value["kind"], value["handler"], value["overhead"]["podFixed"]["memory"]) == (
        "RuntimeClass", "kata-snp-gpu", "20736Mi")


def test_the_public_guides_settings_come_out_for_its_case() -> None:
    """Its recipe: default_memory, cold_plug_vfio and guest_hook_path, and what a GPU needs beside them."""
    text = render(requested("CC-0.8.0", "virtcca", 1)).text
    for line in ("default_memory = 20480", 'cold_plug_vfio = "root-port"', 'guest_hook_path = "/usr/share/oci/hooks"',
                 "sandbox_cgroup_only = true", "static_sandbox_resource_mgmt = true",
                 'virtio_fs_extra_args = ["--thread-pool-size=1"]', 'machine_type = "virt"'):
        assert f"\n{line}\n" in text
    assert "virtcca_cvm_guest" not in text, "that release's patch has it built in"


def qemu_of(request: KataRequest) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(render(request).text)["hypervisor"]["qemu"]
    return found


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_a_container_starts_where_there_is_no_selinux(release: str, tee: str, gpu: bool) -> None:
    """Left out, Go's default of these would keep every container from starting."""
    values = tomllib.loads(render(requested(release, tee, int(gpu))).text)
    assert values["hypervisor"]["qemu"]["disable_guest_selinux"] is True
    assert values["runtime"]["disable_guest_seccomp"] is True
    assert values["agent"]["kata"]["dial_timeout"] >= 60, "left out, Kata gives up after 30 s"
    assert values["hypervisor"]["qemu"]["cpu_features"].endswith("pmu=off")


ASSETS = "/opt/kata/share/kata-containers"


@pytest.mark.parametrize(("release", "tee", "gpus", "expected"), [
    ("3.30", "snp", 1, {"rootfs_type": "ext4", "kernel_params": "cgroup_no_v1=all pci=realloc pci=nocrs "
                        "pci=assign-busses nvrc.smi.srs=1", "firmware": "/opt/kata/share/ovmf/AMDSEV.fd"}),
    ("4.1", "tdx", 1, {"rootfs_type": "erofs", "firmware": "/opt/kata/share/ovmf/OVMF.inteltdx.fd"}),
    ("3.15", "snp", 0, {"initrd": f"{ASSETS}/kata-containers-initrd-confidential.img",
                        "kernel": f"{ASSETS}/vmlinuz-confidential.container"}),
    ("3.15", "none", 1, {"initrd": f"{ASSETS}/kata-containers-initrd-nvidia-gpu.img", "cold_plug_vfio": "root-port",
                         "hot_plug_vfio": "no-port", "kernel_params": "agent.hotplug_timeout=20 cgroup_no_v1=all"}),
    ("CC-0.8.0", "tdx", 0, {"image": f"{ASSETS}/kata-containers-tdx.img", "shared_fs": "virtio-fs",
                            "firmware_volume": "/opt/kata/share/tdvf/OVMF_VARS.fd"}),
    ("3.28", "none", 1, {"rootfs_type": "ext4"}),
])
def test_the_files_are_the_releases_own(release: str, tee: str, gpus: int, expected: dict[str, str]) -> None:
    values = qemu_of(requested(release, tee, gpus))
    assert {key: values[key] for key in expected} == expected


@pytest.mark.parametrize(("version", "kind"), [("3.30", "ext4"), ("3.31", "erofs"), ("3.33.1", "erofs")])
def test_nvidias_images_are_erofs_since_3_31(version: str, kind: str) -> None:
    assert qemu_of(requested(version, "none", 1))["rootfs_type"] == kind


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_what_is_not_changed_stays_as_it_is_shipped(release: str, tee: str, gpu: bool) -> None:
    request = requested(release, tee, int(gpu))
    made = render(request)
    changed = {(change.section, change.key) for change in made.changes}
    assert request.base is not None
    written = sections(tomllib.loads(made.text))
    for section, table in request.base.values.items():
        for key, value in table.items():
            assert (section, key) in changed or written[section][key] == value
    assert all(change.reason and change.value != change.shipped for change in made.changes)
    assert {(section, key) for section, table in written.items() for key in table} - changed <= {
        (section, key) for section, table in request.base.values.items() for key in table}


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_a_drop_in_beside_the_shipped_file_is_the_whole_rendering(release: str, tee: str, gpu: bool,
                                                                  tmp_path: Path) -> None:
    request = requested(release, tee, int(gpu))
    assert request.base is not None
    made, main, extra = render(request), tmp_path / "configuration.toml", tmp_path / "50-vmtool.toml"
    main.write_text(write(("as shipped",), request.base.values, ()))
    extra.write_text(render_drop_in(made))
    merged = read(main, [extra], request.release.toml, request.release.keys)
    assert merged.values == tomllib.loads(made.text)
    target = LintTarget(merged, request.release, asked=tee, gpus=int(gpu), arch=request.arch)
    assert not [item for item in lint(target) if item.id in ("key.drop-in", "drop-in.table")]


def test_virtcca_on_3_15() -> None:
    values = qemu_of(requested("3.15-virtcca", "virtcca", 2))
    assert values["kernel_params"] == "virtcca_cvm_guest=1 swiotlb=262144,force"
    assert (values["confidential_guest"], values["machine_type"]) == (True, "virt")
    assert values["path"].endswith("qemu-system-aarch64-virtcca-experimental")


def params(release: str, tee: str, gpus: int, words: str) -> str:
    return str(qemu_of(requested(release, tee, gpus, kata={"kernel_params": words}))["kernel_params"])


def test_kernel_params_keep_their_order_and_the_specs_words_win() -> None:
    assert params("4.1", "none", 0, "zz=1  aa=2\nsystemd.unified_cgroup_hierarchy=0") == (
        "cgroup_no_v1=all zz=1 aa=2 systemd.unified_cgroup_hierarchy=0")
    assert params("3.15-virtcca", "virtcca", 0, "swiotlb=9,force") == "virtcca_cvm_guest=1 swiotlb=9,force"
    assert params("3.30", "snp", 1, "pci=noaer") == (
        "cgroup_no_v1=all pci=realloc pci=nocrs pci=assign-busses nvrc.smi.srs=1 pci=noaer"), "each pci= is for itself"
    assert params("3.30", "snp", 1, "pci=nocrs").split().count("pci=nocrs") == 1


@pytest.mark.parametrize(("memory", "slabs"), [(1024, 131072), (16384, 131072), (20480, 262144), (65536, 524288),
                                               (1 << 20, 524288)])
def test_bounce_buffers_follow_the_memory(memory: int, slabs: int) -> None:
    assert swiotlb_slabs(memory) == slabs


def test_timeouts_grow_with_memory_vcpus_gpus_and_confidentiality() -> None:
    small = dial_seconds(2048, 1, 0, False)
    assert 45 <= small < 60
    for more in ((4096, 1, 0, False), (2048, 2, 0, False), (2048, 1, 1, False), (2048, 1, 0, True)):
        assert dial_seconds(*more) > small
        assert create_seconds(*more) > dial_seconds(*more)
    assert dial_seconds(1 << 20, 64, 8, True) > 1200, "what NVIDIA's templates have is too short for a whole HGX"


@pytest.mark.parametrize(("spec", "expected"), [
    ({"memory": "1Gi", "cpus": 1.5}, {"default_memory": 1024, "default_vcpus": 2}),
    ({"kata": {"root_ports": 9}, "gpus": 1}, {"pcie_root_port": 9}), ({"gpus": 1}, {"pcie_root_port": 8}),
    ({"kata": {"injection": "hook", "hook_path": "/h"}, "gpus": 1}, {"guest_hook_path": "/h"}),
    ({"kata": {"injection": "hook"}}, {"guest_hook_path": ""}),
    ({"kata": {"qemu": "/q", "kernel": "/k", "firmware": "/f"}}, {"path": "/q", "valid_hypervisor_paths": ["/q"],
                                                                 "kernel": "/k", "firmware": "/f"}),
    ({"gpus": 1}, {"guest_hook_path": "", "rootfs_type": "erofs", "cold_plug_vfio": "root-port"}),
    ({"kata": {"image": "/i"}, "gpus": 1}, {"image": "/i", "rootfs_type": "ext4"}),
    ({"kata": {"prefix": "/usr"}}, {"kernel": "/usr/share/kata-containers/vmlinux.container"}),
    ({"verity": VERITY}, {"kernel_verity_params": VERITY}),
    ({"kata": {"shared_fs": "none", "annotations": ["default_vcpus"]}}, {"shared_fs": "none",
                                                                         "enable_annotations": ["default_vcpus"]}),
])
def test_what_the_spec_says_is_in_the_file(spec: dict[str, Any], expected: dict[str, Any]) -> None:
    values = qemu_of(requested("4.1", **spec))
    assert {key: values[key] for key in expected} == expected


def test_an_initrd_goes_alone() -> None:
    qemu = qemu_of(requested("4.1", "snp", kata={"initrd": "/initrd"}))
    assert (qemu["initrd"], qemu["image"]) == ("/initrd", "")
    qemu = qemu_of(requested("3.15", "snp", kata={"image": "/image"}))
    assert (qemu["initrd"], qemu["image"], qemu["rootfs_type"]) == ("", "/image", "ext4")


TEXT = st.text(max_size=60) | st.text(alphabet="\"'\\\n\r\t\x00\x7f\x85\u2028{}%#", max_size=60)
PATH = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@given(params=TEXT | st.just("p" * 4096) | st.text(min_size=1000, max_size=4096), path=PATH, hooks=PATH,
       annotations=st.lists(TEXT, max_size=4), combination=st.sampled_from(COMBINATIONS))
def test_whatever_the_spec_holds_comes_out_again(params: str, path: str, hooks: str, annotations: list[str],
                                                 combination: tuple[str, str, bool]) -> None:
    release, tee, gpu = combination
    # A pydantic pattern's `$` is the end, so the path may hold line breaks as well.
    spec = {"kernel_params": params, "image": f"/{path}", "hook_path": f"/{hooks}", "annotations": annotations,
            "injection": "hook"}
    text = render(requested(release, tee, int(gpu), kata=spec)).text
    qemu = tomllib.loads(text)["hypervisor"]["qemu"]
    assert qemu["image"] == f"/{path}"
    assert qemu.get("guest_hook_path", "") == (f"/{hooks}" if gpu else "")
    assert qemu["enable_annotations"] == annotations
    assert qemu["kernel_params"].split()[-len(params.split()) or len(qemu["kernel_params"]):] == params.split()
    assert text.encode().decode() == text


@given(value=st.recursive(st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(), st.lists))
def test_the_filter_writes_toml(value: Any) -> None:
    assert tomllib.loads(f"x = {to_toml(value)}")["x"] == value


def test_the_filter_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="NoneType has no form"):
        to_toml(None)


def test_a_value_that_is_written_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmtool.kata.render.to_toml", lambda value: "7" if value == 20480 else to_toml(value))
    with pytest.raises(VmtoolError) as error:
        render(requested("4.1"))
    assert "hypervisor.qemu.default_memory is 7, not 20480" in error.value.details
