"""Binding at every boot: the files, what removes them, and what the initramfs would do first."""

from __future__ import annotations

import configparser

import pytest

from tests.fakes import plans
from tests.fakes.recorded import Recorded
from vmtool.gpu.boot_facts import initramfs_drivers, read_persisted
from vmtool.gpu.plan_persist import plan_forget, plan_persist, render
from vmtool.gpu.vfio_driver import Choice
from vmtool.plan import WriteFile

A, B = "0000:17:00.0", "0000:2a:00.0"
CHOICES = [(A, Choice("vfio-pci", "vfio-pci")), (B, Choice("nvgrace_gpu_vfio_pci", "nvgrace_gpu_vfio_pci"))]


def test_a_file_per_device_a_script_and_a_unit() -> None:
    [step] = plan_persist(CHOICES)
    files = {str(action.path): action for action in step.actions if isinstance(action, WriteFile)}
    assert files[f"/etc/vmtool/gpu.d/{A}"].text == "vfio-pci vfio-pci\n"
    assert files[f"/etc/vmtool/gpu.d/{B}"].text == "nvgrace_gpu_vfio_pci nvgrace_gpu_vfio_pci\n"
    assert files["/etc/vmtool/gpu-boot"].mode == 0o755
    *_, last = step.actions
    assert last.shell() == "systemctl enable vmtool-gpu.service", "its files are there before"
    assert [action.shell() for action in step.undo] == [f"rm -rf --one-file-system /etc/vmtool/gpu.d/{bdf}"
                                                        for bdf in (A, B)]


def test_the_unit_runs_before_udev_loads_drivers() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(render("vmtool-gpu.service"))
    unit, service = parser["Unit"], parser["Service"]
    assert {"systemd-udev-trigger.service", "systemd-modules-load.service"} <= set(unit["Before"].split())
    assert unit["DefaultDependencies"] == "no"
    assert unit["ConditionDirectoryNotEmpty"] == "/etc/vmtool/gpu.d"
    assert service["ExecStart"] == "/etc/vmtool/gpu-boot"


def test_the_script_overrides_all_before_it_unbinds_any() -> None:
    lines = render("boot").splitlines()
    calls = [line for line in lines if line.startswith("each ")]
    assert calls == ["each prepare", "each unbind", "each probe", "each complain"]
    assert "new_id" not in render("boot")


@pytest.mark.parametrize("last", [True, False])
def test_the_unit_goes_with_the_last_device(last: bool) -> None:
    lines = plans.lines(plan_forget([A], last=last).actions)
    assert f"rm -rf --one-file-system /etc/vmtool/gpu.d/{A}" in lines
    assert ("systemctl disable vmtool-gpu.service" in lines) == last


def test_the_devices_files_go_after_the_unit_so_that_another_release_finds_what_is_left() -> None:
    lines = plans.lines(plan_forget([A], last=True).actions)
    assert lines.index(f"rm -rf --one-file-system /etc/vmtool/gpu.d/{A}") > lines.index(
        "rm -rf --one-file-system /etc/systemd/system/vmtool-gpu.service")
    assert lines[0] == "systemctl disable vmtool-gpu.service"


def test_what_is_persisted_is_read_from_the_files() -> None:
    assert read_persisted(Recorded({"names": {"/etc/vmtool/gpu.d": [A]}})) == {A}


@pytest.mark.parametrize("listing, found", [
    ("usr/lib/modules/6.1.0/kernel/drivers/net/e1000.ko\n", ()),
    ("usr/lib/modules/6.1.0/updates/dkms/nvidia-current-open.ko\nusr/lib/modules/6.1.0/updates/dkms/nvidia.ko.xz\n",
     ("nvidia", "nvidia_current_open")),
    ("usr/lib/modules/6.1.0/kernel/drivers/gpu/drm/nouveau/nouveau.ko\n", ()),
])
def test_what_the_initramfs_brings(listing: str, found: tuple[str, ...]) -> None:
    host = Recorded({"which": {"lsinitramfs": "/usr/bin/lsinitramfs"},
                     "outputs": {"lsinitramfs /boot/initrd.img-6.1.0": {"out": listing}}})
    assert initramfs_drivers(host, "6.1.0", ["nvidia", ""]) == found


def test_an_initramfs_that_nobody_can_list_is_not_checked() -> None:
    assert initramfs_drivers(Recorded({}), "6.1.0", ["nvidia"]) is None
