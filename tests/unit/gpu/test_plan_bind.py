"""Binding on hosts that react: the order, all or none, what is remembered, what hangs."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.fakes.sysfs import Faults
from tests.unit.gpu.acting import Quiet, do_bind, do_release, on, planned
from tests.unit.gpu.cases import CARD, H100, IDLE
from tests.unit.gpu.conftest import Boot
from vmtool.engine import apply, hooks, transactions
from vmtool.engine.journal import Journal
from vmtool.errors import NotReady, ProgramFailed, VerificationFailed
from vmtool.gpu import plan_bind, saved_state
from vmtool.gpu.actions import ProveVfio
from vmtool.gpu.check import check_bind
from vmtool.gpu.facts import read_gpu
from vmtool.gpu.pci import DEVICES
from vmtool.gpu.select import DeviceRequest
from vmtool.paths import State
from vmtool.plan import plan_lines


def test_the_dry_run_prints_the_very_lines_that_are_written(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    lines = list(plan_lines(planned(kernel, state, H100[0])))
    assert [line for line in lines if not line.startswith(("install", "(umask", "{", "}", " ", "EOF"))] == [
        f"# 1. note the drivers of {H100[0]}",
        "# 2. load vfio-pci",
        "modprobe vfio-pci disable_idle_d3=1",
        f"# 3. bind {H100[0]} to vfio-pci",
        f"echo 0 > {DEVICES}/{H100[0]}/d3cold_allowed\necho vfio-pci > {DEVICES}/{H100[0]}/driver_override",
        f"echo {H100[0]} > {DEVICES}/{H100[0]}/driver/unbind",
        f"echo {H100[0]} > /sys/bus/pci/drivers_probe\necho on > {DEVICES}/{H100[0]}/power/control",
        f'[ "$(basename "$(readlink {DEVICES}/{H100[0]}/driver)")" = vfio-pci ]',
        f"timeout 5 sh -c 'cd {DEVICES}/{H100[0]}/vfio-dev || exit 0\n"
        "for dev in */dev; do until [ ! -e $dev -o -e /dev/vfio/devices/${dev%/dev} ]; do sleep 0.02; done; done'",
        ProveVfio((f"{DEVICES}/{H100[0]}",), saved_state.proofs(state)).shell(),
    ]
    do_bind(kernel, state, H100[0])
    printed = [line for text in lines for line in text.splitlines() if line.startswith("echo ")]
    assert printed == [f"echo {text} > {path}" for path, text in kernel.written]
    assert kernel.driver(H100[0]) == "vfio-pci"


def test_all_are_overridden_before_any_is_unbound_and_unbound_before_any_is_probed(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, everything=True)
    kinds = [path.rpartition("/")[2] for path, _ in kernel.written if not path.endswith(("d3cold_allowed", "control"))]
    assert kinds == ["driver_override"] * 12 + ["unbind"] * 12 + ["drivers_probe"] * 12
    bound = [bdf for bdf, driver in kernel.drivers().items() if driver == "vfio-pci"]
    assert len(bound) == 12, "eight GPUs and four switches"
    assert not [path for path, _ in kernel.written if "new_id" in path]


def test_a_card_goes_with_all_its_functions_and_its_group_becomes_viable(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE, texts={"/sys/class/vtconsole/vtcon1/bind": None})
    assert not kernel.viable(1)
    do_bind(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",))
    assert [kernel.driver(bdf) for bdf in CARD] == ["vfio-pci"] * 4
    assert kernel.viable(1)


def test_a_bind_is_done_when_the_devices_own_nodes_are_there(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.own_nodes = {H100[0]: 0.3, H100[1]: 2.0}
    do_bind(kernel, state, *H100[:2])
    assert len(kernel.nodes) == 2
    assert [kernel.exists(node) for node in kernel.nodes] == [True, True]
    assert 2.0 <= kernel.clock < 3.0


def test_a_kernel_without_such_nodes_is_not_waited_for(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.data["names"][f"{DEVICES}/{H100[0]}/vfio-dev"] = ["vfio0"]
    do_bind(kernel, state, H100[0])
    assert (kernel.driver(H100[0]), kernel.clock) == ("vfio-pci", 0.0)


def test_a_node_that_never_appears_fails_the_bind_and_says_which(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.own_nodes = {H100[0]: 1.0, H100[1]: 1e9}
    with pytest.raises(VerificationFailed, match="a bound device has no node") as caught:
        do_bind(kernel, state, *H100[:2])
    assert f"{H100[1]}: /dev/vfio/devices/vfio1 did not appear within 5 s" in caught.value.details
    assert not [line for line in caught.value.details if line.startswith(H100[0])]
    assert {kernel.driver(bdf) for bdf in H100[:2]} == {"nvidia"}, "all is released"


def test_a_second_bind_does_nothing_and_says_so(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    before = list(kernel.written)
    plan = do_bind(kernel, state, H100[0])
    assert not plan.changes
    assert list(plan_lines(plan)) == [f"# 1. bind {H100[0]} to vfio-pci (nothing to do: already bound)"]
    assert kernel.written == before


@pytest.mark.parametrize("name, bdfs, driver", [
    ("grace", ("0009:01:00.0",), "nvgrace_gpu_vfio_pci"), ("hgx-h100", H100[:2], "vfio-pci"),
])
def test_the_variant_that_modules_alias_names_is_taken(boot: Boot, state: State, name: str, bdfs: tuple[str, ...],
                                                       driver: str) -> None:
    kernel = boot(name, **IDLE)
    do_bind(kernel, state, *bdfs)
    assert {kernel.driver(bdf) for bdf in bdfs} == {driver}
    do_release(kernel, state, *bdfs)
    assert {kernel.driver(bdf) for bdf in bdfs} == {"nvidia"}


def test_a_device_without_a_group_gets_one_by_its_first_probe(boot: Boot, state: State) -> None:
    kernel = boot("kunpeng-a100", **IDLE)
    kernel.late_groups["0000:81:00.0"] = 31
    do_bind(kernel, state, "0000:81:00.0")
    device = read_gpu(kernel, state).inventory.find("0000:81:00.0")
    assert device
    assert (device.driver, device.group) == ("vfio-pci", 31)


def test_a_sleeping_device_is_woken_before_it_is_probed(boot: Boot, state: State) -> None:
    path = f"{DEVICES}/0000:81:00.0"
    kernel = boot("kunpeng-a100", **IDLE, texts={f"{path}/power_state": "D3cold\n"})
    kernel.late_groups["0000:81:00.0"] = 31
    do_bind(kernel, state, "0000:81:00.0")
    assert kernel.driver("0000:81:00.0") == "vfio-pci"
    assert kernel.text(f"{path}/power/control") == "on\n"
    do_release(kernel, state, "0000:81:00.0")
    assert kernel.text(f"{path}/power/control") == "auto\n"


@pytest.mark.parametrize("fault, message", [
    (Faults(refused_by={"vfio-pci": errno.EINVAL}), "did not bind as asked"),
    (Faults(errors={"unbind": errno.EBUSY}), "did not take what was written"),
    (Faults(errors={"driver_override": errno.EINVAL}), "did not take what was written"),
    (Faults(vanishes_on="unbind"), "did not take what was written"),
    (Faults(vanishes_on="drivers_probe"), "did not take what was written"),
], ids=["probe-refused", "unbind-busy", "override-refused", "vanishes-at-unbind", "vanishes-at-probe"])
def test_when_one_fails_all_the_others_go_back_to_what_they_were(boot: Boot, state: State, fault: Faults,
                                                                 message: str) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.faults[H100[3]] = fault
    before, settings = kernel.drivers(), kernel.settings()
    with pytest.raises((ProgramFailed, VerificationFailed), match=message) as error:
        do_bind(kernel, state, everything=True, deadline=0.05)
    assert any(H100[3] in line for line in error.value.details)
    there = set(kernel.drivers())
    assert kernel.drivers() == {bdf: driver for bdf, driver in before.items() if bdf in there}
    assert kernel.settings() == {path: text for path, text in settings.items() if path.split("/")[5] in there}
    assert Journal(plan_bind.directory(state)).replay().state == "clean"
    assert not list(saved_state.records(state).iterdir())


def test_a_write_that_has_ended_is_taken_however_late_that_is_seen(boot: Boot, state: State,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine vmtool may not run between a write's start and its deadline."""
    kernel = boot("hgx-h100", **IDLE)
    monkeypatch.setattr(kernel, "now", iter(range(0, 10**6, 100)).__next__)
    do_bind(kernel, state, *H100[:3])
    assert [kernel.driver(bdf) for bdf in H100[:3]] == ["vfio-pci"] * 3


def test_a_device_that_hangs_is_told_marked_and_left_alone(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.faults[H100[1]] = Faults(hangs_on=("unbind",))
    before = kernel.drivers()
    with pytest.raises(ProgramFailed, match=f"{H100[1]}: hangs in the kernel") as error:
        do_bind(kernel, state, *H100[:3], deadline=0.05)
    assert "  State:\tD (disk sleep)" in error.value.details
    assert "  [<0>] nv_pci_remove+0x1f/0x40 [nvidia]" in error.value.details
    assert kernel.drivers() == before, "the others are back"
    tries = [path for path, _ in kernel.written if H100[1] in path and path.endswith("unbind")]
    assert tries == [], "it is not tried a second time"
    assert read_gpu(kernel, state).inventory.hung[H100[1]][0] == "State:\tD (disk sleep)"
    with pytest.raises(NotReady, match=f"{H100[1]} hung in the kernel since this boot"):
        do_bind(kernel, state, H100[1])


def test_a_device_that_hangs_for_somebody_else_is_told_and_not_waited_for(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    kernel.locked.add(H100[1])
    details = read_gpu(kernel, state).inventory.details
    assert (details[H100[1]].busy, details[H100[0]].busy) == (True, False)
    with pytest.raises(NotReady, match=f"{H100[1]} is being bound or unbound by someone else, or hangs in that"):
        do_bind(kernel, state, *H100[:2])
    assert kernel.written == []


def test_after_a_reboot_a_device_that_hung_is_tried_again(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    path = saved_state.marks(state) / H100[1]
    path.parent.mkdir(parents=True)
    path.write_text("another boot\nState:\tD\n")
    do_bind(kernel, state, H100[1])
    assert kernel.driver(H100[1]) == "vfio-pci"


@pytest.mark.parametrize("after", range(1, 8))
def test_killed_at_any_moment_recover_puts_everything_back(boot: Boot, state: State, after: int,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = boot("hgx-h100", **IDLE)
    before, settings = kernel.drivers(), kernel.settings()
    done = 0

    def begun(event: hooks.Event) -> None:
        nonlocal done
        done += (event.name, event.moment) == ("begin", "after")
        if done > after:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(hooks, "observers", (begun,))
        patch.setattr(apply, "undo", lambda *_, **options: [])  # as after SIGKILL: nobody is left to undo
        do_bind(kernel, state, *H100[:2])
    [left] = transactions.read_interrupted(state)
    assert transactions.recover(state, left.directory, Quiet(), on=on(kernel)) == []
    assert kernel.drivers() == before
    assert kernel.settings() == settings
    assert transactions.read_interrupted(state) == []


def test_what_an_instance_has_is_not_given_to_another(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0], owner="instance a")
    with pytest.raises(NotReady, match=f"{H100[0]} serves instance a") as error:
        do_bind(kernel, state, H100[0], owner="instance b")
    assert error.value.hint == "vmtool rm a"
    plan = do_bind(kernel, state, count=1, owner="instance b")
    assert H100[0] not in " ".join(step.title for step in plan.steps)


def test_the_way_back_of_a_launch_gives_back_only_what_it_bound(boot: Boot, state: State) -> None:
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0])
    facts, wish = read_gpu(kernel, state), DeviceRequest(bdfs=H100[:2], owner="instance a")
    steps = plan_bind.bind_steps(state, facts, wish, check_bind(facts, wish))
    undo = [action.shell() for step in steps for action in step.undo]
    assert not [line for line in undo if H100[0] in line and "> /sys/" in line]
    assert [line for line in undo if H100[1] in line and "> /sys/" in line]


def test_what_a_machine_still_has_open_is_not_given_back_until_it_is_free(boot: Boot, state: State) -> None:
    """The kernel would wait in the unbind. The device stays claimed, and its undo on record, for another try."""
    kernel = boot("hgx-h100", **IDLE)
    do_bind(kernel, state, H100[0], owner="instance a")
    lines = [f"{H100[0]} is held in the kernel, by no process that can be seen"]
    kernel.data["busy"] = {}
    left = apply.undo(plan_bind.directory(state), Quiet(), on=on(kernel))
    assert len(left) == 3
    assert all("not released, since a machine still has it open" in line and lines[0] in line for line in left)
    assert (kernel.driver(H100[0]), saved_state.read_claims(kernel, state)) == ("vfio-pci", {H100[0]: "instance a"})
    del kernel.data["busy"]
    assert apply.undo(plan_bind.directory(state), Quiet(), on=on(kernel)) == []
    assert (kernel.driver(H100[0]), saved_state.read_claims(kernel, state)) == ("nvidia", {})


class Killed(BaseException):
    """SIGKILL, as far as a test can."""


def test_the_records_tell_where_a_device_came_from(boot: Boot, state: State) -> None:
    kernel = boot("desktop", **IDLE, texts={"/sys/class/vtconsole/vtcon1/bind": None})
    do_bind(kernel, state, CARD[0], boot_vga=True, others=("0000:02:00.0",))
    found = saved_state.read_records(kernel, state)
    assert {bdf: one.driver for bdf, one in found.items()} == {
        "0000:01:00.0": "nouveau", "0000:01:00.1": "snd_hda_intel", "0000:01:00.2": "xhci_hcd", "0000:01:00.3": "",
        "0000:02:00.0": "r8169"}
    assert oct((saved_state.records(state) / CARD[0]).stat().st_mode & 0o777) == "0o600"
    assert Path(saved_state.records(state)).is_relative_to(state.root)
