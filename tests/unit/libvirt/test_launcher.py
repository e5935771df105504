"""A launch by libvirt: the plan, what is asked before anything starts, and what `vmtool libvirt render` shows of it."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.launches import Found, launched
from tests.unit.launch.cases import MODEL, NETWORK, actions, asleep
from tests.unit.libvirt.cases import GPUS, STATE, facts, gpu_facts, host, wish
from vmtool.access.actions import WriteAccess
from vmtool.endpoint.actions import AwaitHealth
from vmtool.engine.journal import JournalState
from vmtool.errors import NotReady, Refused
from vmtool.findings import host_lacks
from vmtool.instance.instance import Instance, Paths
from vmtool.launch.pipeline import plan_launch
from vmtool.launch.render import render_launch
from vmtool.libvirt.actions import GuestRequest
from vmtool.libvirt.facts import DomainFacts
from vmtool.libvirt.launch_domain import DomainPaths
from vmtool.libvirt.workers import end_domain, start_domain
from vmtool.net.cni_facts import Plugins
from vmtool.net.network import Network
from vmtool.paths import State
from vmtool.plan import CopySecret, MakeDir, Plan, Remove, Run, RunWorker, WriteFile, plan_lines, run_worker
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.rootfs.boot.workers import make_initramfs
from vmtool.rootfs.format.image_file import Extent
from vmtool.spec.runtime import Spec


def launch_facts(spec: Spec, on: DomainFacts | None = None, **changes: Any) -> Found:
    gpu = gpu_facts() if spec.spec.resources.accelerators.bdf else None
    return replace(Found(host(), MODEL, None, gpu=gpu, guest=on or facts(spec.spec.runtime.tee)), **changes)


def plan(spec: Spec | None = None, **changes: Any) -> Plan:
    spec = spec or wish()
    return plan_launch(*launched(STATE, spec, launch_facts(spec, **changes)))


def written(made: Plan, name: str = "domain.xml") -> str:
    [text] = [action.text for action in actions(made) if isinstance(action, WriteFile) and action.path.name == name]
    return text


def test_the_table_of_contents() -> None:
    titles = [step.title for step in plan(wish("snp", 1)).steps]
    assert titles[3] == "make the guest's disks: workload and model"
    assert titles[-12:] == [
        "bind 0000:81:00.0 to vfio-pci",
        "make the guest's initramfs",
        "work out what the guest's evidence of snp must show",
        "start the domain vmtool-chat (qemu:///system)",
        "look whether the guest really runs in snp",
        "verify what was started, before it gets the key",
        "wait until the guest's agent answers, at most 273 s",
        "put together who may ask",
        "hand over the address and the key, start the workload",
        "wait until the server is healthy, at most 200 s",
        "ask the canary and compare its answer",
        "verify what runs",
    ]


def test_the_way_back_works_after_a_restart_of_the_machine() -> None:
    assert asleep(plan()) == []


def test_nothing_is_handed_over_before_the_look() -> None:
    order = actions(plan(wish("tdx")))
    [look] = [number for number, action in enumerate(order) if isinstance(action, ExpectTee)]
    asked = [(number, action.verb) for number, action in enumerate(order) if isinstance(action, GuestRequest)]
    assert [verb for _, verb in asked] == ["report", "network", "serve"], "the key goes last"
    assert look < asked[0][0]
    [given] = [action for action in order if isinstance(action, WriteAccess)]
    assert [action.source for action in order if isinstance(action, GuestRequest)][-1] == given.path
    secret = {given.path, *(action.path for action in order if isinstance(action, CopySecret))}
    assert given.key in secret
    assert not any(str(path) in action.shell() for action in order if isinstance(action, Run) for path in secret)


def test_the_look_knows_what_was_asked_for() -> None:
    [look] = [action for action in actions(plan(wish("snp", 2))) if isinstance(action, ExpectTee)]
    assert (look.name, look.tee, look.devices, look.program, look.kernel, look.handler) == (
        "vmtool-chat", "snp", GPUS, "/usr/bin/qemu-system-x86_64", "/s/domains/chat/kernel", "libvirt")
    assert any(step.skip == "NOT CONFIDENTIAL: no TEE was asked for" for step in plan().steps)


def test_the_domain_ends_before_its_devices_are_given_back() -> None:
    made = plan(wish("none", 1))
    titles = [step.title for step in made.steps]
    start = titles.index("start the domain vmtool-chat (qemu:///system)")
    assert titles.index("bind 0000:81:00.0 to vfio-pci") < start, "undoing goes backwards"
    undo = plans.step(made, titles[start]).undo
    end, gone = plans.one(undo, RunWorker), plans.one(undo, KillQemu)
    assert end == run_worker(end_domain.Order("qemu:///system", "vmtool-chat"), deadline=90.0)
    assert undo.index(end) < undo.index(gone), "politely first"
    assert gone == KillQemu("vmtool-chat", "/usr/bin/qemu-system-x86_64")


def test_the_instance_remembers_the_digest_of_what_was_defined() -> None:
    made = plan()
    record = written(made, "instance.json")
    assert hashlib.sha256(written(made).encode()).hexdigest() in record
    assert '"/s/domains/chat/kernel"' in record


@pytest.mark.parametrize(("wanted", "system", "uri"), [
    ("auto", True, "qemu:///system"), ("auto", False, "qemu:///embed?root="), ("embed", True, "qemu:///embed?root="),
    ("session", True, "qemu:///session"), ("system", False, "qemu:///system"),
])
def test_which_libvirt_is_asked(wanted: str, system: bool, uri: str) -> None:
    spec = wish(libvirt={"uri": wanted})
    made = plan(spec, on=facts(system=system))
    [start] = plans.orders(actions(made), start_domain)
    assert start["uri"].startswith(uri)
    embedded = any(isinstance(action, WriteFile) and action.path.name == "qemu.conf" for action in actions(made))
    assert embedded == (uri == "qemu:///embed?root=")


def test_a_socket_of_the_longest_name_fits() -> None:
    """sun_path has 108 bytes, and libvirt puts its own below the directory (unix(7))."""
    place = DomainPaths(State(Path("/" + "d" * 200)), "n" * 63)
    assert len(str(place.run / "libvirt" / "run" / "virtqemud-sock-ro")) < 108


def test_an_emulated_guest_is_given_time() -> None:
    quick, slow = ([action.deadline for action in actions(plan(on=facts(accelerated=accelerated)))
                    if isinstance(action, GuestRequest | AwaitHealth)] for accelerated in (True, False))
    assert slow[0] == 5 * quick[0]
    assert slow[-1] == 5 * quick[-1]


def test_a_large_guest_is_given_time_to_boot_and_a_spec_can_give_more() -> None:
    def deadlines(**changes: Any) -> tuple[float, float]:
        made = actions(plan(wish(gpus=2, **changes)))
        [start] = [action.deadline for action in made
                   if isinstance(action, RunWorker) and plans.is_for(action.argv, start_domain)]
        return start, next(action.deadline for action in made if isinstance(action, GuestRequest))

    small, large = deadlines(), deadlines(resources={"memory": "60Gi", "accelerators": {"bdf": GPUS}, "cpus": 16})
    assert small[0] == 300 and large[0] >= large[1] > small[1]
    assert deadlines(timeouts={"boot": 900}) == (900, 900)


def test_the_guest_alone_answers_for_the_address() -> None:
    lines = list(plan_lines(plan()))
    down = next(number for number, line in enumerate(lines) if line.endswith("link set dev eth0 down"))
    start = next(number for number, line in enumerate(lines) if plans.is_for(line.split(), start_domain))
    assert down < start


def test_the_guests_disks_can_be_reached_but_not_listed_by_qemus_user() -> None:
    made = plans.step(plan(), "make the guest's disks")
    modes = {action.path: action.mode for action in made.actions if isinstance(action, MakeDir)}
    assert {path: modes[path] for path in modes if path.name != "tree"} == dict.fromkeys(
        (Path("/s"), Path("/s/disks"), Path("/s/domains"), Path("/s/domains/chat")), 0o711)
    assert modes[Path("/s/domains/chat/tree")] & 0o077 == 0


def test_the_model_has_room_on_its_disk() -> None:
    made = plans.step(plan(on=facts(model_size=8 << 30)), "make the guest's disks")
    [make] = [action for action in made.actions if isinstance(action, Run) and action.argv[0] == "mke2fs"]
    assert make.argv[-2:] == ("/s/domains/chat/model.img", f"{(9 << 10) + 64}M")
    assert ("-d", "/m") in list(itertools.pairwise(make.argv))


def test_what_is_mounted_meanwhile_is_unmounted_before_its_directory_goes() -> None:
    *_, unmount, remove = plans.step(plan(), "make the guest's disks").undo
    assert isinstance(unmount, Run) and unmount.argv[-2:] == ("--rm", "/s/domains/chat/tree")
    assert "not found" in unmount.absent_messages
    assert remove == Remove(Path("/s/domains/chat"))


@pytest.mark.parametrize(("holds", "reader"), [("ext4", "debugfs"), ("erofs", "dump.erofs")])
def test_the_initramfs_is_made_out_of_the_images_own_modules(holds: str, reader: str) -> None:
    image = replace(facts().known(), rootfs=Extent(1 << 20, 1 << 30, holds), path=Path("/i/other.img"))
    made = plans.step(plan(on=facts(image=image)), "make the guest's initramfs")
    [make] = plans.orders(made.actions, make_initramfs)
    assert (make["image"], make["holds"], make["start"]) == ("/i/other.img", holds, 1 << 20)
    assert reader in make["reader"]
    first, *_, last = made.actions
    assert first == last == Remove(Path("/s/domains/chat/initrd.d")), "nothing of it is left"
    assert made.undo == (Remove(Path("/s/domains/chat/initrd.d")),)


def test_a_gpu_is_passed_to_the_workload_only_when_it_was_asked_for() -> None:
    units = [written(plan(wish("none", gpus)), "vmtool-workload.service") for gpus in (0, 1)]
    assert ["PrivateDevices=yes" in unit for unit in units] == [True, False]


@pytest.mark.parametrize(("tee", "gpus"), [("none", 0), ("snp", 2), ("tdx", 1)])
def test_what_is_rendered_is_what_run_would_define(tee: str, gpus: int) -> None:
    """The plan's own file, byte for byte: there is one code path."""
    spec = wish(tee, gpus)
    made = render_launch(*launched(STATE, spec, launch_facts(spec)))
    assert made.text == written(plan(spec))
    assert made.stops == ()


def test_a_firmware_boot_is_rendered_and_not_run() -> None:
    spec = wish("none", boot="firmware")
    made = render_launch(*launched(STATE, spec, launch_facts(spec)))
    assert "<boot dev='hd'/>" in made.text
    assert [line.partition(": ")[0] for line in made.stops] == ["spec.runtime.libvirt.boot"]
    with pytest.raises(Refused):
        plan(spec)


def test_what_only_stops_the_run_is_told_beside_the_rendering() -> None:
    spec = wish(allow_unconfidential=False)
    bare = replace(NETWORK, plugins=Plugins())
    problems = facts(libvirt=None, findings=(host_lacks("b", "no static busybox"),))
    made = render_launch(*launched(STATE, spec, launch_facts(spec, problems, host=replace(host(), network=bare))))
    told = "\n".join(made.stops)
    for part in ("spec.allow_unconfidential", "libvirt is not installed", "no static busybox", "CNI plugin"):
        assert part in told
    assert "<name>vmtool-chat</name>" in made.text


def test_every_problem_of_the_domain_is_told_at_once() -> None:
    spec = wish("snp", libvirt={"firmware": None, "machine": "pc"}, network={"bridge": "br0", "subnet": "10.0.0.0/7"},
                resources={"memory": "1Gi", "cpus": 1, "accelerators": {"bdf": ["0000:99:00.0"]}})
    with pytest.raises(Refused) as error:
        render_launch(*launched(STATE, spec, launch_facts(spec, facts("snp", libvirt="9.0.0"))))
    told = "\n".join(error.value.details)
    for part in ("snp measures the firmware", "pc has no PCI Express", "0000:99:00.0", "10.0.0.0/7", "libvirt 9.0.0"):
        assert part in told
    assert error.value.hint == "correct the spec"


@pytest.mark.parametrize(("on", "gpus", "message"), [
    (facts(emulator="", findings=(host_lacks("q", "qemu-system-x86_64 is not installed"),)), 0, "qemu-system-x86_64"),
    (facts(image=None, findings=(host_lacks("t", "no tools to read it"),)), 0, "no tools to read it"),
    (facts(), 1, "no IOMMU"),
])
def test_what_the_description_would_have_to_name_must_be_there(on: DomainFacts, gpus: int, message: str) -> None:
    spec = wish(gpus=gpus)
    gpu = replace(gpu_facts(), vfio=replace(gpu_facts().vfio, groups=0), enable="boot with iommu=on")
    with pytest.raises(NotReady) as error:
        render_launch(*launched(STATE, spec, launch_facts(spec, on, gpu=gpu if gpus else None)))
    assert message in "\n".join(error.value.details)
    assert error.value.hint == "vmtool doctor --for libvirt --tee none"


@pytest.mark.parametrize(("handler", "hint"), [("kata", "vmtool kata render"), ("runc", "write handler: libvirt")])
def test_other_handlers_have_no_domain(handler: str, hint: str) -> None:
    spec = Spec.model_validate(wish().model_dump(by_alias=True) | {"spec": wish().spec.model_dump(by_alias=True) | {
        "runtime": {"handler": handler}}})
    with pytest.raises(Refused, match=f"{handler} has no domain") as error:
        render_launch(*launched(STATE, spec, Found(host(), MODEL, None)))
    assert hint in error.value.hint


def test_a_running_instance_is_rendered_on_its_own_bridge() -> None:
    spec = wish()
    paths = Paths(Path("/s/instances/chat"))
    earlier = Instance("chat", paths, None, "running", 7, JournalState(state="applied"))
    there = replace(NETWORK, ours=(Network("chat", "vmt-chat0", "10.9.0.0/24", "instance chat"),),
                    netns=("vmtool-chat",))
    found = launch_facts(spec, earlier=earlier, host=replace(host(), network=there))
    made = render_launch(*launched(STATE, spec, found))
    assert "bridge='vmt-chat0'" in made.text
    assert made.stops == ("chat runs already",)
