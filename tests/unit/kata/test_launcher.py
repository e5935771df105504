"""A launch by Kata: the plan, every problem at once, the look at what was started, and the claims afterwards."""

from __future__ import annotations

import hashlib
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import plans
from tests.fakes.host import FakeHost
from tests.fakes.launches import Found, launched
from tests.fakes.proc import Proc
from tests.fakes.recorded import Recorded
from tests.unit.kata.cases import ASSETS, FILES, RECORD
from tests.unit.kata.launches import GPU, VIRTCCA, host, plan, wish
from tests.unit.launch.cases import MODEL, NETWORK, STATE, actions
from tests.unit.qemu.cases import argv
from vmtool.doctor.host import read_host
from vmtool.engine.journal import JournalState
from vmtool.errors import NotReady, Refused, VerificationFailed, VmtoolError
from vmtool.gpu import check, launch_devices
from vmtool.instance.instance import Instance, InstanceRecord, Paths
from vmtool.launch.claims import read_claims
from vmtool.launch.pipeline import plan_launch
from vmtool.machine import Output
from vmtool.plan import WriteFile, plan_lines
from vmtool.qemu.actions import ExpectTee, KillQemu
from vmtool.serving import receive_keys


def test_the_table_of_contents() -> None:
    titles = [step.title for step in plan().steps]
    assert titles[4].startswith("attach the network namespace")
    assert titles[5:] == [
        "render the configuration for Kata 3.30: configuration-qemu-snp.toml of Kata 3.30 for x86_64 with 4 changes; "
        "the lint says: security.measured-root, security.shared-fs",
        "work out what the guest's evidence of snp must show",
        "start the container with kata",
        "look whether the guest really runs in snp",
        "verify what was started, before it gets the key",
        "hand over the key, which starts the server",
        "wait until the server is healthy, at most 128 s",
        "ask the canary and compare its answer",
        "verify what runs",
    ]


def test_the_shim_is_given_the_instances_own_configuration_and_no_limit() -> None:
    made = plan()
    run = plans.run(plans.step(made, "start the container with kata").actions, "--detach")
    text = run.shell()
    assert "--runtime io.containerd.kata.v2" in text
    assert "--runtime-config-path /s/instances/chat/kata/configuration.toml" in text
    assert "--memory-limit" not in text
    step = plans.step(made, "start the container with kata")
    assert not any("pids.max" in line for line in plans.lines(step.actions)), "a guest has its own"
    assert "--cpus" not in text
    assert run.deadline > 120
    written = plans.one(plans.step(made, "render the configuration").actions, WriteFile)
    assert written.path == Path("/s/instances/chat/kata/configuration.toml")
    assert "\ndefault_memory = 2048\n" in written.text
    record = next(action for action in actions(made) if isinstance(action, WriteFile) and "digest" in action.text)
    assert hashlib.sha256(written.text.encode()).hexdigest() in record.text


def test_the_look_comes_before_anything_waits() -> None:
    made = plan()
    [look] = [action for action in actions(made) if isinstance(action, ExpectTee)]
    assert (look.name, look.tee, look.program) == ("sandbox-chat", "snp", "/opt/kata/bin/qemu-system-x86_64")
    assert [step.waits_only for step in made.steps] == [False] * 11 + [True] * 3
    assert "sandbox-chat" in "\n".join(plan_lines(made))


def test_the_key_comes_after_the_look_and_by_no_file_that_the_guest_shares() -> None:
    lines = list(plan_lines(plan()))
    [look] = [number for number, line in enumerate(lines) if "grep -e sev-snp-guest" in line]
    [key] = [number for number, line in enumerate(lines) if line.endswith("< /s/instances/chat/secret/access")]
    assert look < key
    assert (f"task exec --fifo-dir /s/instances/chat/secret/fifo --exec-id vmtool-key chat python3 -P -m "
            f"{receive_keys.__name__}") in lines[key]
    [start] = [line for line in lines if " run --detach" in line]
    assert "secret" not in start


def test_without_a_tee_the_plan_says_so() -> None:
    made = plan(wish(runtime={"handler": "kata"}, allow_unconfidential=True))
    assert plans.step(made, "look whether the guest").skip == "NOT CONFIDENTIAL: no TEE was asked for"


def test_a_machine_without_kata_is_not_ready_and_runc_is_never_taken() -> None:
    bare = read_host(Recorded.load("debian12-pvm"), "/s", guests=False)
    with pytest.raises(NotReady) as error:
        plan(on=replace(bare, network=NETWORK))
    told = "\n".join(error.value.details)
    assert "no containerd-shim-kata*-v2 found" in told
    assert error.value.hint == "vmtool doctor --for kata --tee snp"


def test_every_problem_of_the_wish_and_the_host_at_once() -> None:
    bad = wish(runtime={"handler": "kata", "tee": "virtcca", "kata": {"version": "4.1", "image": "/a", "initrd": "/b"}},
               resources={"memory": "64Ti", "cpus": 1})
    with pytest.raises(Refused) as error:
        plan(bad)
    told = "\n".join(error.value.details)
    for part in ("Kata 4.1 has no virtcca", "image and initrd", "/b is not there", "spec.runtime.tee: virtcca needs"):
        assert part in told
    assert sum("spec.resources.memory" in line for line in error.value.details) == 1


def test_a_gpu_is_bound_and_passed_on_by_its_group() -> None:
    spec = wish(runtime=VIRTCCA, allow_unconfidential=True, resources={"memory": "2Gi", "cpus": 1, "accelerators": GPU})
    made = plan(spec, gpus=Recorded.load("gpu-kunpeng-a100"))
    titles = [step.title for step in made.steps]
    start = titles.index("start the container with kata")
    assert any(title.startswith("bind ") for title in titles[:start])
    assert "--device /dev/vfio/" in plans.run(plans.step(made, titles[start]).actions, "--detach").shell()
    [text] = [action.text for action in actions(made) if isinstance(action, WriteFile)
              and action.path.name == "configuration.toml" and "kata" in str(action.path)]
    assert 'cold_plug_vfio = "root-port"' in text


def test_devices_are_chosen_once_for_check_configuration_and_bind(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = wish(runtime=VIRTCCA, allow_unconfidential=True, resources={"memory": "2Gi", "cpus": 1, "accelerators": GPU})
    real, chosen = check.choose, []

    def choose(*arguments: Any) -> Any:
        chosen.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(launch_devices, "choose", choose)
    plan(spec, gpus=Recorded.load("gpu-kunpeng-a100"))
    assert len(chosen) == 1


def test_a_gpu_that_cannot_be_bound_is_listed_with_its_hint() -> None:
    spec = wish(runtime=VIRTCCA, allow_unconfidential=True,
                resources={"memory": "2Gi", "cpus": 1, "accelerators": {"bdf": ["0000:99:00.0"]}})
    with pytest.raises(Refused) as error:
        plan(spec, gpus=Recorded.load("gpu-kunpeng-a100"))
    assert "0000:99:00.0: there is no such device (vmtool gpu list shows what there is)" in error.value.details


def test_a_hook_gets_the_variable_that_it_waits_for() -> None:
    runtime = VIRTCCA | {"kata": VIRTCCA["kata"] | {"injection": "hook"}}  # type: ignore[operator]
    spec = wish(runtime=runtime, allow_unconfidential=True, resources={"memory": "2Gi", "cpus": 1, "accelerators": GPU})
    made = plan(spec, gpus=Recorded.load("gpu-kunpeng-a100"))
    assert any("--env NVIDIA_VISIBLE_DEVICES=all" in line for line in plan_lines(made))


def test_runc_passes_no_gpu_on() -> None:
    spec = wish(runtime={"handler": "runc"}, allow_unconfidential=True,
                resources={"memory": "2Gi", "cpus": 1, "accelerators": GPU})
    with pytest.raises(Refused) as error:
        plan_launch(*launched(STATE, spec, Found(host(), MODEL, None)))
    assert "runc passes no GPU on: use kata or libvirt" in "\n".join(error.value.details)


def look(tmp_path: Path, tee: str = "snp", **changes: Any) -> ExpectTee:
    (tmp_path / "container.pid").write_text("9 90\n")
    return replace(ExpectTee("sandbox-chat", tee, (), FILES[0], f"{ASSETS}/vmlinuz.container", tmp_path / "qemu.txt",
                             deadline=0.0, pidfile=tmp_path / "container.pid"), **changes)


def seen(proc: Proc) -> FakeHost:
    """A host on which the process 9 is the one that the launch started."""
    host = FakeHost(proc)
    host.alive = {9: "90"}
    return host


def test_the_right_guest_passes_and_its_arguments_are_kept(tmp_path: Path) -> None:
    look(tmp_path).do(seen(Proc({9: (FILES[0], argv("snp"))})))
    lines = (tmp_path / "qemu.txt").read_text().splitlines()
    assert lines[0] == FILES[0]
    assert lines[1:] == argv("snp")


def test_kata_passes_files_on_without_links(tmp_path: Path) -> None:
    """vmlinuz.container is a link of the release archive; QEMU is given what it leads to."""
    words = [word.replace("vmlinuz.container", "vmlinuz-6.12") for word in argv("snp")]
    links = {f"{ASSETS}/vmlinuz.container": "vmlinuz-6.12", FILES[0]: "/usr/lib/qemu-snp"}
    proc = Proc({9: ("/usr/lib/qemu-snp", words)}, {"/i/chat/kata/configuration.toml": "text"}, links)
    look(tmp_path).do(seen(proc))
    instance = Instance("chat", Paths(Path("/i/chat")), RECORD, "running", 9, JournalState(state="applied"))
    told = {claim.id: claim.verdict for claim in read_claims(proc, instance)}
    assert (told["vm.kernel"], told["vm.program"]) == ("proven", "proven")


@pytest.mark.parametrize(("processes", "changes", "message"), [
    ({9: (FILES[0], argv("none"))}, {}, "an ordinary VM"),
    ({9: (FILES[0], argv("stock-arm64"))}, {"tee": "virtcca"}, "a stock shim ignores confidential_guest"),
    ({9: ("/tmp/qemu-system-x86_64", argv("snp"))}, {}, "/tmp/qemu-system-x86_64 runs, not"),
    ({9: (FILES[0], argv("snp"))}, {"devices": ("0000:41:00.0",)}, "asked for: 0000:41:00.0"),
])
def test_another_guest_than_was_asked_for_is_exit_code_4(tmp_path: Path, processes: dict[int, Any],
                                                         changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VerificationFailed) as error:
        look(tmp_path, **changes).do(seen(Proc(processes)))
    assert message in "\n".join(error.value.details)
    assert error.value.code == 4
    assert (tmp_path / "qemu.txt").exists(), "what it showed is kept"


def status(parent: int, user: int) -> str:
    return f"PPid:\t{parent}\nUid:\t{user}\t{user}\t{user}\t{user}\n"


COPY = {8: (FILES[0], argv("snp"))}
TWO = {9: (FILES[0], argv("snp")), 10: (FILES[0], argv("snp"))}
# Of the launch is what it started itself: QEMU, or the shim whose child it is.
NOT_OURS = [
    ({}, {}), (COPY, {}), (COPY, {8: status(1, 1000)}), (COPY, {8: status(9, 1000)}), (TWO, {10: status(9, 0)}),
    ({9: (FILES[0], argv("snp"))}, {9: status(1, 1000)}), ({9: (FILES[0], argv("snp"))}, {9: ""}),
]


@pytest.mark.parametrize(("processes", "statuses"), NOT_OURS)
def test_a_qemu_that_the_launch_did_not_start_is_no_proof(tmp_path: Path, processes: dict[int, Any],
                                                          statuses: dict[int, str]) -> None:
    """A program of another user's, or of anybody's, can have the name and the arguments of a guest's QEMU."""
    texts = {f"/proc/{pid}/status": text for pid, text in statuses.items()}
    with pytest.raises(VerificationFailed, match="not known what runs"):
        look(tmp_path).do(seen(Proc(processes, texts)))
    assert claims(processes, texts=texts)["tee"] == "not-checked"


def test_a_qemu_that_is_about_to_start_a_program_of_its_own_is_there_twice_for_a_moment(tmp_path: Path) -> None:
    class Starting(FakeHost):
        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            proc.processes[10] = ("/usr/lib/qemu-bridge-helper", ["qemu-bridge-helper"])

    proc = Proc(dict(TWO), {"/proc/10/status": status(9, 0)})
    host = Starting(proc)
    host.alive = {9: "90"}
    look(tmp_path, deadline=1.0).do(host)


def test_the_qemu_of_a_shim_is_its_child(tmp_path: Path) -> None:
    proc = Proc({9: ("/x/shim", ["shim"]), 12: (FILES[0], argv("snp")), **COPY}, {"/proc/12/status": status(11, 0),
                                                                                  "/proc/11/status": status(9, 0)})
    look(tmp_path).do(seen(proc))


def test_after_the_launchs_process_ended_no_other_qemu_is_taken_for_it(tmp_path: Path) -> None:
    host = seen(Proc({9: (FILES[0], argv("snp"))}))
    host.alive = {}
    with pytest.raises(VerificationFailed, match="not known what runs"):
        look(tmp_path).do(host)
    with pytest.raises(VerificationFailed, match="not known what runs"):
        look(tmp_path, pidfile=None).do(host)


def claims(processes: dict[int, Any], text: str | None = "text", record: InstanceRecord = RECORD,
           texts: dict[str, str] | None = None) -> dict[str, str]:
    files = {"/i/chat/kata/configuration.toml": text} if text is not None else {}
    files |= texts or {}
    instance = Instance("chat", Paths(Path("/i/chat")), record, "running", 9, JournalState(state="applied"))
    return {claim.id: claim.verdict for claim in read_claims(Proc(processes, files), instance)}


def test_status_looks_again() -> None:
    assert claims({9: (FILES[0], argv("snp"))}) == {
        "process.running": "proven", "task.running": "not-checked", "image.digest": "not-checked",
        "process.hardening": "not-checked",
        "tee": "not-checked", "vm.tee": "proven", "vm.kvm": "proven",
        "vm.no-debugger": "proven", "vm.devices": "proven", "vm.kernel": "proven", "vm.program": "proven",
        "configuration.unchanged": "proven", "guest.tee": "not-checked", "guest.cmdline": "not-checked",
        "canary": "not-checked"}


@pytest.mark.parametrize(("processes", "text", "failed"), [
    ({9: (FILES[0], argv("none"))}, "text", {"tee", "vm.tee"}),
    ({9: ("/x/qemu-system", argv("snp"))}, "text", {"vm.program"}),
    ({9: (FILES[0], argv("snp"))}, "changed", {"configuration.unchanged"}),
    ({9: (FILES[0], argv("snp"))}, None, {"configuration.unchanged"}),
])
def test_what_changed_meanwhile_fails(processes: dict[int, Any], text: str | None, failed: set[str]) -> None:
    assert {name for name, verdict in claims(processes, text).items() if verdict == "failed"} == failed


def test_a_plain_look_asks_containerd_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Proc, words: tuple[str, ...], deadline: float = 10.0) -> Output | None:
        assert words[-2:] == ("task", "list")
        return Output(0, "TASK    PID    STATUS\nchat    9    RUNNING\n", "")

    monkeypatch.setattr(Proc, "run", run)
    found = claims({9: (FILES[0], argv("snp-gpu"))}, record=replace(RECORD, devices=("0000:41:00.0",)))
    assert (found["gpu.in-container"], found["vm.devices"], found["task.running"]) == (
        "not-checked", "proven", "proven")


@pytest.mark.parametrize("listed", ["TASK    PID    STATUS\n", "TASK    PID    STATUS\nchat    9    STOPPED\n",
                                    "TASK    PID    STATUS\nother    9    RUNNING\n"])
def test_a_guest_whose_shim_died_is_told(listed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proc, "run", lambda self, words, deadline=10.0: Output(0, listed, ""))
    assert claims({9: (FILES[0], argv("snp"))})["task.running"] == "failed"


HELD = "0000:41:00.0 is held in the kernel, by no process that can be seen\n"


@pytest.mark.parametrize(("processes", "answer", "expected"), [
    ({}, Output(0, "", ""), {"vm.gone": "proven", "gpu.free": "proven"}),
    ({}, Output(0, HELD, ""), {"vm.gone": "proven", "gpu.free": "failed"}),
    ({}, None, {"vm.gone": "proven", "gpu.free": "not-checked"}),
    ({9: (FILES[0], argv("snp"))}, Output(0, "", ""), {"vm.gone": "failed", "gpu.free": "proven"}),
])
@pytest.mark.parametrize("handler", ["kata", "libvirt"])
def test_what_a_dead_guest_left_is_told(processes: dict[int, Any], answer: Output | None, expected: dict[str, str],
                                        handler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Proc, "run", lambda self, words, deadline=10.0: answer)
    if handler == "libvirt":
        processes = {pid: (program, [word.replace("sandbox-chat", "guest=vmtool-chat") for word in words])
                     for pid, (program, words) in processes.items()}
    record = replace(RECORD, devices=("0000:41:00.0",), handler=handler)
    instance = Instance("chat", Paths(Path("/i/chat")), record, "stopped", None, JournalState(state="applied"))
    found = {claim.id: claim.verdict for claim in read_claims(Proc(processes), instance)}
    assert found == {"process.running": "failed", "canary": "not-checked", **expected}


def test_without_a_qemu_to_look_at_nothing_is_proven() -> None:
    assert claims({})["tee"] == "not-checked"
    assert claims({}, record=replace(RECORD, tee="none"))["tee"] == "failed"


def test_the_way_back_ends_qemu_before_a_device_is_given_back() -> None:
    spec = wish(runtime=VIRTCCA, allow_unconfidential=True, resources={"memory": "2Gi", "cpus": 1, "accelerators": GPU})
    made = plan(spec, gpus=Recorded.load("gpu-kunpeng-a100"))
    undo = [action for step in reversed(made.steps) for action in step.undo]
    kinds = [type(action).__name__ for action in undo]
    assert kinds.index("KillQemu") < kinds.index("WriteSysfs")
    assert undo[kinds.index("KillQemu")] == KillQemu("sandbox-chat", "/opt/kata/bin/qemu-system-x86_64")


RUNNING = Proc({8: ("/other/qemu-system-x86_64", argv("snp")), 9: (FILES[0], argv("snp"))})


def machine(*, stubborn: bool = False) -> FakeHost:
    host = FakeHost(RUNNING)
    host.alive, host.stubborn = {8: "80", 9: "90"}, stubborn
    return host


def test_only_the_guests_own_qemu_is_ended() -> None:
    host = machine()
    KillQemu("sandbox-chat", FILES[0]).do(host)
    KillQemu("sandbox-other", FILES[0]).do(host)
    assert host.signals == [(9, signal.SIGKILL)]


def test_a_qemu_that_does_not_die_is_told() -> None:
    with pytest.raises(VmtoolError, match="survives SIGKILL and still holds its devices"):
        KillQemu("sandbox-chat", FILES[0], deadline=1.0).do(machine(stubborn=True))
