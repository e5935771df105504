"""Giving back, also when things have moved on since the bind."""

from __future__ import annotations

import pytest

from tests.fakes import plans
from tests.fakes.sysfs import Faults
from tests.unit.gpu.acting import do_bind, do_release
from tests.unit.gpu.cases import CARD, H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.errors import NotReady, ProgramFailed, Refused
from vmtool.gpu import saved_state
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.pci import DEVICES, DRIVERS
from vmtool.gpu.plan_release import plan_release
from vmtool.paths import State
from vmtool.plan import plan_lines

NO_CONSOLE = {"/sys/class/vtconsole/vtcon1/bind": None}


@pytest.mark.parametrize("name, bdfs, wish", [
    ("hgx-h100", H100, {}), ("grace", ("0009:01:00.0",), {}), ("desktop", CARD[:1],
                                                              {"boot_vga": True, "others": ("0000:02:00.0",)}),
])
def test_a_release_leaves_the_host_as_it_was(boot: Boot, state: State, name: str, bdfs: tuple[str, ...],
                                             wish: dict[str, object]) -> None:
    kernel = boot(name, **(IDLE if name != "desktop" else IDLE | {"texts": NO_CONSOLE}))
    before, settings = kernel.drivers(), kernel.settings()
    do_bind(kernel, state, *bdfs, **wish)
    assert kernel.drivers() != before
    do_release(kernel, state)
    assert (kernel.drivers(), kernel.settings()) == (before, settings)
    assert saved_state.read_records(kernel, state) == {}


def test_one_function_takes_the_whole_card_back(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE, texts=NO_CONSOLE)
    before = kernel.drivers()
    do_bind(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",))
    do_release(kernel, state, CARD[0])
    assert kernel.drivers() == before


def test_others_stay_bound(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, *H100[:3])
    do_release(kernel, state, H100[1])
    assert [kernel.driver(bdf) for bdf in H100[:3]] == ["vfio-pci", "nvidia", "vfio-pci"]


def test_an_override_of_somebody_elses_is_put_back(boot: Boot, state: State) -> None:
    path = f"{DEVICES}/{H100[0]}/driver_override"
    kernel = boot("hgx-h100", **IDLE, texts={path: "nvidia\n"})
    do_bind(kernel, state, H100[0])
    assert kernel.text(path) == "vfio-pci\n"
    do_release(kernel, state, H100[0])
    assert (kernel.text(path), kernel.driver(H100[0])) == ("nvidia\n", "nvidia")


def test_a_driver_that_was_unloaded_meanwhile_is_loaded_first(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    kernel.data["names"][DRIVERS].remove("nvidia")
    do_release(kernel, state, H100[0])
    assert ("modprobe", "nvidia") in kernel.ran
    assert kernel.driver(H100[0]) == "nvidia"


def test_what_cannot_be_given_back_is_still_on_record(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, *H100[:2])
    kernel.faults[H100[1]] = Faults(errors={"bind": 16})
    with pytest.raises(ProgramFailed, match="did not take what was written"):
        do_release(kernel, state)
    assert set(saved_state.read_records(kernel, state)) == set(H100[:2])
    do_release(kernel, state)
    assert [kernel.driver(bdf) for bdf in H100[:2]] == ["nvidia", "nvidia"]


def test_after_a_reboot_there_is_nothing_to_write(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    again = boot("hgx-h100", **IDLE)
    plan = do_release(again, state, H100[0])
    assert next(iter(plan_lines(plan))) == f"# 1. give back {H100[0]} (nothing to do: it is back already)"
    assert again.written == []
    assert saved_state.read_records(again, state) == {}


def test_a_release_that_ended_between_driver_and_settings_is_finished_by_the_next(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    path, before = f"{DEVICES}/{H100[0]}", kernel.settings()
    do_bind(kernel, state, H100[0])
    for name, text in (("unbind", H100[0]), ("driver_override", ""), ("bind", H100[0])):
        place = {"unbind": f"{path}/driver/unbind", "bind": "/sys/bus/pci/drivers/nvidia/bind"}
        kernel.device_write(place.get(name, f"{path}/{name}"), text)
    assert kernel.driver(H100[0]) == "nvidia"
    assert kernel.settings() != before, "d3cold_allowed is still what the bind made it"
    do_release(kernel, state, H100[0])
    assert kernel.settings() == before
    assert saved_state.read_records(kernel, state) == {}


def test_what_someone_else_bound_meanwhile_is_left_to_them(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    kernel.data["links"][f"{DEVICES}/{H100[0]}/driver"] = "../../../bus/pci/drivers/nouveau"
    written = list(kernel.written)
    plan = do_release(kernel, state, H100[0])
    assert plans.step(plan, f"give back {H100[0]}").skip == "someone else bound it to nouveau"
    assert kernel.written == written


def test_a_device_that_a_machine_runs_with_is_refused_with_its_name(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    kernel.data["names"]["/proc"] = ["77"]
    kernel.data["links"]["/proc/77/fd/9"] = "/dev/vfio/60"
    kernel.data["texts"]["/proc/77/comm"] = "qemu-system-x86\n"
    with pytest.raises(NotReady, match=rf"{H100[0]} is used by qemu-system-x86 \(pid 77\), which has /dev/vfio/60"):
        do_release(kernel, state, H100[0])


@pytest.mark.parametrize("bdf, error, message", [
    (H100[0], None, ""),
    ("0000:77:00.0", Refused, "there is no such device"), ("18:00.0", Refused, "is no PCI address"),
    ("0000:17:00.0", Refused, "is a bridge"),
])
def test_refusals(boot: Boot, state: State, bdf: str, error: type[Exception] | None, message: str) -> None:
    kernel = boot("hgx-h100", **IDLE)
    if error is None:
        plan = plan_release(state, read_gpu(kernel, state), (bdf,), frozenset())
        assert [step.skip for step in plan.steps] == ["not bound by vmtool"]
        return
    with pytest.raises(error, match=message):
        do_release(kernel, state, bdf)


def test_what_is_on_vfio_without_vmtool_is_refused(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE, links={f"{DEVICES}/{H100[0]}/driver": "../../../bus/pci/drivers/vfio-pci"})
    with pytest.raises(NotReady, match="was not given to vfio-pci by vmtool") as error:
        do_release(kernel, state, H100[0])
    assert "driverctl unset-override" in error.value.hint
