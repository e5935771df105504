"""Golden files for every combination; values that follow the request; whatever the spec holds comes out again."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.kata.cases import COMBINATIONS, asked
from vmtool.errors import VmtoolError
from vmtool.kata.render import render, render_kind
from vmtool.kata.values import swiotlb_slabs, values_of
from vmtool.qemu.timeouts import create_seconds, dial_seconds
from vmtool.rendering import environment, to_toml

GOLDEN = Path(__file__).parents[2] / "golden" / "kata"
VERITY = "root_hash=ab,salt=cd,data_blocks=9,data_block_size=4096,hash_block_size=4096"


def golden(name: str, text: str) -> None:
    """Compare; with VMTOOL_WRITE_GOLDEN=1 write instead, for a person to look at the difference."""
    if os.environ.get("VMTOOL_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    assert (GOLDEN / name).read_text() == text


@pytest.mark.parametrize(("release", "tee", "gpu"), COMBINATIONS)
def test_golden(release: str, tee: str, gpu: bool) -> None:
    text, _ = render(asked(release, tee, int(gpu)))
    golden(f"{release}-{tee}{'-gpu' * gpu}.toml", text)
    assert render(asked(release, tee, int(gpu)))[0] == text


def test_there_is_no_golden_file_too_many() -> None:
    assert {path.stem for path in GOLDEN.glob("*.toml")} == {
        f"{release}-{tee}{'-gpu' * gpu}" for release, tee, gpu in COMBINATIONS} | {"handler"}


@pytest.mark.parametrize(("kind", "name"), [("handler", "handler.toml"), ("runtimeclass", "runtimeclass.yaml"),
                                            ("udev", "udev.rules")])
def test_golden_beside_the_configuration(kind: str, name: str) -> None:
    golden(name, render_kind(kind, asked("4.1", "snp", 1))[0])


def test_the_runtimeclass_is_yaml_and_counts_what_the_vm_takes() -> None:
    import yaml

    value = yaml.safe_load(render_kind("runtimeclass", asked("4.1", "snp", 1))[0])
    assert (value["kind"], value["handler"], value["overhead"]["podFixed"]["memory"]) == (
        "RuntimeClass", "kata-snp-gpu", "20736Mi")


def test_the_public_guides_settings_come_out_for_its_case() -> None:
    """Its recipe: default_memory, cold_plug_vfio and guest_hook_path, and what a GPU needs beside them."""
    text, _ = render(asked("CC-0.8.0", "virtcca", 1))
    for line in ("default_memory = 20480", 'cold_plug_vfio = "root-port"', 'guest_hook_path = "/usr/share/oci/hooks"',
                 "sandbox_cgroup_only = true", "static_sandbox_resource_mgmt = true",
                 'virtio_fs_extra_args = ["--thread-pool-size=1"]', 'machine_type = "virt"', 'kernel_params = ""'):
        assert f"\n{line}\n" in text


def test_virtcca_on_3_15() -> None:
    values = values_of(asked("3.15-virtcca", "virtcca", 2))
    assert values.kernel_params == "virtcca_cvm_guest=1 swiotlb=262144,force"
    assert (values.confidential_guest, values.machine_type, values.pcie_root_port) == (True, "virt", 3)
    assert values.path.endswith("qemu-system-aarch64-virtcca-experimental")


def test_kernel_params_keep_their_order_and_the_specs_words_win() -> None:
    own = {"kernel_params": "zz=1  aa=2\npci=realloc systemd.unified_cgroup_hierarchy=0"}
    assert values_of(asked("4.1", kata=own)).kernel_params == (
        "cgroup_no_v1=all zz=1 aa=2 pci=realloc systemd.unified_cgroup_hierarchy=0")
    swiotlb = {"kernel_params": "swiotlb=9,force"}
    assert values_of(asked("3.15-virtcca", "virtcca", kata=swiotlb)).kernel_params == (
        "virtcca_cvm_guest=1 swiotlb=9,force")


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


@pytest.mark.parametrize(("wish", "expected"), [
    ({"memory": "1Gi", "cpus": 1.5}, {"default_memory": 1024, "default_vcpus": 2}),
    ({"kata": {"root_ports": 9}, "gpus": 1}, {"pcie_root_port": 9}),
    ({"kata": {"injection": "hook", "hook_path": "/h"}, "gpus": 1}, {"guest_hook_path": "/h"}),
    ({"kata": {"injection": "hook"}}, {"guest_hook_path": ""}),
    ({"gpus": 1}, {"guest_hook_path": "", "rootfs_type": "erofs", "cold_plug_vfio": "root-port"}),
    ({"kata": {"image": "/i"}, "gpus": 1}, {"image": "/i", "rootfs_type": "ext4"}),
    ({"kata": {"prefix": "/usr"}}, {"kernel": "/usr/share/kata-containers/vmlinux.container"}),
    ({"verity": VERITY}, {"kernel_verity_params": VERITY}),
    ({"kata": {"shared_fs": "none", "annotations": ["default_vcpus"]}}, {"shared_fs": "none",
                                                                         "enable_annotations": ["default_vcpus"]}),
])
def test_what_the_wish_says_is_in_the_file(wish: dict[str, Any], expected: dict[str, Any]) -> None:
    values = tomllib.loads(render(asked("4.1", **wish))[0])
    assert {key: values["hypervisor"]["qemu"][key] for key in expected} == expected


def test_an_initrd_goes_alone() -> None:
    qemu = tomllib.loads(render(asked("4.1", "snp", kata={"initrd": "/initrd"}))[0])["hypervisor"]["qemu"]
    assert qemu["initrd"] == "/initrd"
    assert not {"image", "rootfs_type", "kernel_verity_params"} & qemu.keys()


TEXT = st.text(max_size=60) | st.text(alphabet="\"'\\\n\r\t\x00\x7f\x85\u2028{}%#", max_size=60)
PATH = st.text(alphabet=st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@given(params=TEXT | st.just("p" * 4096) | st.text(min_size=1000, max_size=4096), path=PATH, hooks=PATH,
       annotations=st.lists(TEXT, max_size=4), combination=st.sampled_from(COMBINATIONS))
def test_whatever_the_spec_holds_comes_out_again(params: str, path: str, hooks: str, annotations: list[str],
                                                 combination: tuple[str, str, bool]) -> None:
    release, tee, gpu = combination
    # A pydantic pattern's `$` is the end, so the path may hold line breaks as well.
    wish = {"kernel_params": params, "image": f"/{path}", "hook_path": f"/{hooks}", "annotations": annotations,
            "injection": "hook"}
    made = asked(release, tee, int(gpu), kata=wish)
    text, _ = render(made)
    qemu = tomllib.loads(text)["hypervisor"]["qemu"]
    assert qemu["image"] == f"/{path}"
    assert qemu["guest_hook_path"] == (f"/{hooks}" if gpu else "")
    assert qemu["enable_annotations"] == annotations
    assert qemu["kernel_params"] == values_of(made).kernel_params
    assert qemu["kernel_params"].split()[-len(params.split()) or len(qemu["kernel_params"]):] == params.split()
    assert text.encode().decode() == text


@given(value=st.recursive(st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(), st.lists))
def test_the_filter_writes_toml(value: Any) -> None:
    assert tomllib.loads(f"x = {to_toml(value)}")["x"] == value


def test_the_filter_refuses_what_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="NoneType has no form"):
        to_toml(None)


def test_a_template_that_changes_a_value_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(environment().filters, "toml", lambda value: "7" if value == 20480 else to_toml(value))
    with pytest.raises(VmtoolError) as error:
        render(asked("4.1"))
    assert "default_memory is 7, not 20480" in error.value.details
