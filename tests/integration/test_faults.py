"""What goes wrong: bad input, killed processes, failing steps. Each ends clearly and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import MakeSpec
from tests.integration.kills import Pace, held, killed, planned, released, until_health
from tests.integration.machine import Vmtool, footprint, output, processes_now
from vmtool.containerd.endpoint import private_endpoint, start_daemon
from vmtool.engine.journal import NAME as JOURNAL
from vmtool.host.local import LocalHost
from vmtool.paths import State
from vmtool.plan import StopDaemon

PORT = 18461
NAME = "faulty"


@pytest.fixture(scope="module")
def kept(vmtool: Vmtool, standin: str) -> set[str]:
    """What containerd holds before all of these tests, and so before each: each looks that it left nothing."""
    return contents(vmtool)


@pytest.fixture
def leftovers(vmtool: Vmtool, kept: set[str]) -> Iterator[Path]:
    """The instance's directory. Afterwards the machine, the containers and the snapshots are as before."""
    before = footprint()
    directory = vmtool.state / "instances" / NAME
    yield directory
    vmtool("recover", status=None)
    if directory.exists():
        vmtool("rm", "--yes", NAME)
    assert footprint() == before
    assert not contents(vmtool) - kept


def contents(vmtool: Vmtool) -> set[str]:
    """Containers, tasks, snapshots and leases of vmtool's containerd, and who holds it.

    What an image of another day left there may go at any time: containerd collects it when it likes.
    """
    state = State(vmtool.state)
    daemon = start_daemon(state)
    state.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    daemon.do(LocalHost())
    try:
        ctr = private_endpoint(state).ctr
        listed = {f"{what}: {' '.join(line.split())}" for what in ("containers", "tasks", "snapshots", "leases")
                  for line in output(*ctr(what, "list")).splitlines()}
        return listed | {f"user: {name}" for name in os.listdir(state.containerd / "users")}
    finally:
        StopDaemon(daemon.pidfile, state.containerd / "users").do(LocalHost())


def state_of(vmtool: Vmtool) -> str:
    return str(vmtool("ps", "--json").json["instances"][0]["state"])


def last_record(directory: Path) -> dict[str, object]:
    record: dict[str, object] = json.loads((directory / JOURNAL).read_text().splitlines()[-1])
    return record


def recovers(vmtool: Vmtool, directory: Path, spec: Path, point: str) -> None:
    """A launch that is killed after a record is interrupted, and recovered once."""
    before = footprint()
    assert killed(vmtool, point, "run", spec), point
    assert last_record(directory)["event"] == point.split()[0]
    assert state_of(vmtool) == "interrupted", point
    vmtool("recover")
    assert footprint() == before, point
    assert vmtool("recover").err == "nothing to recover\n", point


@pytest.mark.timing
def test_sigkill_at_any_action_leaves_a_journal_that_recovers_all(vmtool: Vmtool, make_spec: MakeSpec,
                                                                  leftovers: Path, kept: set[str], pace: Pace) -> None:
    """What follows waits for the model: `test_sigkill_while_waiting...` goes on from there."""
    spec = make_spec(NAME, PORT)
    points = planned(vmtool, spec)
    points = points[:until_health(points) + 1]
    assert len(points) > 60
    for number, point in enumerate(pace.some(points)):
        recovers(vmtool, leftovers, spec, point)
        if number % 8 == 0:
            assert not contents(vmtool) - kept, point
    assert not contents(vmtool) - kept


@pytest.mark.slow
@pytest.mark.timing
def test_sigkill_while_waiting_for_the_model_recovers_all(vmtool: Vmtool, make_spec: MakeSpec,
                                                          leftovers: Path) -> None:
    spec = make_spec(NAME, PORT)
    points = planned(vmtool, spec)
    assert points[-1] == "applied\n"
    for point in points[until_health(points):-1]:
        recovers(vmtool, leftovers, spec, point)


@pytest.mark.timing
def test_sigkill_before_the_first_record_leaves_nothing_to_recover(vmtool: Vmtool, make_spec: MakeSpec,
                                                                   leftovers: Path) -> None:
    before = footprint()
    assert killed(vmtool, "plan ", "run", make_spec(NAME, PORT), moment="before")
    assert footprint() == before
    assert vmtool("recover").err == "nothing to recover\n"


@pytest.mark.timing
def test_sigkill_before_the_last_record_undoes_and_after_it_there_is_nothing_to_recover(
        vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    spec, before = make_spec(NAME, PORT), footprint()
    assert killed(vmtool, "applied\n", "run", spec, moment="before")
    assert state_of(vmtool) == "interrupted"
    vmtool("recover")
    assert footprint() == before
    assert killed(vmtool, "applied\n", "run", spec)
    assert state_of(vmtool) == "running"
    assert vmtool("recover").err == "nothing to recover\n"
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


@pytest.mark.timing
def test_sigkill_at_any_moment_recovers_all(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path, pace: Pace) -> None:
    """Whenever it comes: in the middle of an action, before there is a journal, or when all is done."""
    spec, before = make_spec(NAME, PORT), footprint()
    for _ in range(8 if pace.every else 3):
        moment = random.uniform(0.3, 2.5)
        with subprocess.Popen(vmtool.argv("run", spec), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(moment)
            child.kill()
        vmtool("recover")
        if leftovers.exists() and state_of(vmtool) == "running":
            vmtool("rm", "--yes", NAME)
        assert footprint() == before, f"killed after {moment} s"


@pytest.mark.timing
def test_sigkill_of_recover_itself_is_recovered(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    spec, before = make_spec(NAME, PORT), footprint()
    points = planned(vmtool, spec)
    assert killed(vmtool, points[until_health(points)], "run", spec)
    for _ in range(3):
        assert killed(vmtool, "undone", "recover", moment="before")
        assert killed(vmtool, "undone", "recover")
        assert last_record(leftovers)["event"] == "undone"
    vmtool("recover")
    assert last_record(leftovers)["event"] == "clean"
    assert footprint() == before


@pytest.mark.timing
def test_ctrl_c_is_undone(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path, pace: Pace) -> None:
    spec, before = make_spec(NAME, PORT), footprint()
    points = planned(vmtool, spec)
    points = points[:until_health(points) + 1]
    for point in (points[0], *pace.some(points[1:-1], 20), points[-1]):
        with held(vmtool, point, "run", spec) as child:
            status, error = released(child, signal.SIGINT)
        assert status == 130, (point, error)
        assert "stopped by SIGINT" in error
        assert footprint() == before, point
        assert last_record(leftovers)["event"] == "clean"


@pytest.mark.timing
def test_ctrl_c_while_it_waits_is_undone(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    """It comes in the middle of an action: the server is not healthy before it ends, since it is stopped."""
    before, spec = footprint(), make_spec(NAME, PORT, vllm={"args": {"standin-loads": 60}, "allow": ["unknown"]})
    with subprocess.Popen(vmtool.argv("run", spec), stderr=subprocess.PIPE, text=True) as child:
        while not (leftovers / JOURNAL).exists() or "/health" not in (leftovers / JOURNAL).read_text():
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        error = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "stopped by SIGINT" in error
    assert footprint() == before


@pytest.mark.timing
@pytest.mark.parametrize(("later", "number"), [
    (0.02, signal.SIGKILL), (0.05, signal.SIGINT),
    *(pytest.param(later, number, marks=pytest.mark.slow) for later, number in (
        (0.0, signal.SIGKILL), (0.05, signal.SIGKILL), (0.1, signal.SIGKILL), (0.2, signal.SIGKILL),
        (0.0, signal.SIGINT), (0.02, signal.SIGINT), (0.1, signal.SIGINT), (0.2, signal.SIGINT))),
])
def test_stopped_while_containerd_makes_the_task(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path, later: float,
                                                 number: signal.Signals) -> None:
    """`ctr` is gone then, but containerd goes on with what it was asked for. Whichever moment the signal hits."""
    before = footprint()
    with subprocess.Popen(vmtool.argv("run", make_spec(NAME, PORT)), stderr=subprocess.DEVNULL) as child:
        while not any(f"-namespace vmtool -id {NAME} " in process for process in processes_now().values()):
            assert child.poll() is None
        time.sleep(later)
        child.send_signal(number)
        status = child.wait(300)
    vmtool("recover")
    if state_of(vmtool) == "running":
        vmtool("rm", "--yes", NAME)
    else:
        assert status in (130, -number)
    assert footprint() == before


def test_a_wrong_answer_is_a_failure_that_says_so(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    before = footprint()
    canary = {"prompt": "What is confidential computing?", "expect": "A kind of cheese."}
    failed = vmtool("run", make_spec(NAME, PORT, canary=canary), status=4)
    assert "the model's answer to the canary's question is wrong" in failed.err
    assert "expected: 'A kind of cheese.'" in failed.err
    assert footprint() == before
    evidence = json.loads((leftovers / "evidence" / "canary.json").read_text())
    assert evidence["right"] is False


def test_a_server_that_dies_at_once_is_told_with_its_last_lines(vmtool: Vmtool, make_spec: MakeSpec,
                                                                leftovers: Path) -> None:
    before = footprint()
    failed = vmtool("run", make_spec(NAME, PORT, vllm={"args": {"tool-call-parser": "sausage"}}), status=1)
    assert "the container ended before it was healthy" in failed.err
    assert "sausage" in failed.err
    assert "sausage" in vmtool("logs", NAME).out
    assert footprint() == before


def test_keep_on_failure_keeps_and_rm_removes(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    before = footprint()
    spec = make_spec(NAME, PORT, vllm={"args": {"tool-call-parser": "sausage"}})
    vmtool("run", spec, "--keep-on-failure", status=1)
    assert vmtool("ps", "--json").json["instances"][0]["state"] == "kept"
    assert footprint()["netns"] == sorted([*before["netns"], f"vmtool-{NAME}"])
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


def test_a_failed_start_can_be_tried_again(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    vmtool("run", make_spec(NAME, PORT, vllm={"args": {"tool-call-parser": "sausage"}}), "--keep-on-failure", status=1)
    vmtool("run", make_spec(NAME, PORT))
    assert vmtool("status", NAME, "--json").json["instance"]["state"] == "running"


@pytest.mark.timing
def test_containerd_killed_during_the_run(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    before, spec = footprint(), make_spec(NAME, PORT)
    points = planned(vmtool, spec)
    with held(vmtool, points[until_health(points)], "run", spec) as child:
        pidfile = State(vmtool.state).run / "containerd.pid"
        os.kill(int(pidfile.read_text().split()[0]), signal.SIGKILL)
        status, error = released(child)
    # The container does not need containerd to go on; whichever way it ended, the undo must work without it.
    assert status == 0, error
    vmtool("rm", "--yes", NAME)
    assert footprint() == before


def test_a_missing_image_names_the_command_that_builds_it(vmtool: Vmtool, make_spec: MakeSpec,
                                                          leftovers: Path) -> None:
    before = footprint()
    failed = vmtool("run", make_spec(NAME, PORT, image="vmtool/none:1"), status=3)
    assert "docker.io/vmtool/none:1" in failed.err
    assert "vmtool image build none" in failed.err
    assert footprint() == before


@pytest.mark.parametrize(("change", "message", "status"), [
    ({"network": {"subnet": "127.0.0.0/24"}}, "127.0.0.0/24", 2),
    ({"network": {"bridge": "lo"}}, "exists already", 3),
    ({"model": {"name": "m", "path": "/etc/ssl"}}, "config.json is missing", 2),
    ({"model": {"name": "m", "path": "/nowhere"}}, "/nowhere is no directory with files in it", 2),
    ({"allow_unconfidential": False}, "this launch would not be confidential", 2),
    ({"runtime": {"handler": "kata", "tee": "snp"}}, "Kata shims", 3),
    ({"runtime": {"handler": "libvirt", "tee": "snp"}}, "name a guest image", 2),
    ({"resources": {"memory": "64Ti", "cpus": 1}}, "but this host has", 3),
    ({"vllm": {"args": "--port 1 --api-key x"}}, "--port is decided elsewhere", 2),
])
def test_what_cannot_be_launched_is_refused_before_anything_is_done(
        vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path, change: dict[str, object], message: str,
        status: int) -> None:
    before = footprint()
    refused = vmtool("run", make_spec(NAME, PORT, **change), status=status)
    assert message in refused.err
    assert "hint: " in refused.err
    assert footprint() == before
    assert not (leftovers / JOURNAL).exists()


def test_a_subnet_in_use_is_refused(vmtool: Vmtool, make_spec: MakeSpec, leftovers: Path) -> None:
    subprocess.run(["ip", "link", "add", "vmtest0", "type", "bridge"], check=True, timeout=60)
    try:
        subprocess.run(["ip", "addr", "add", "10.77.5.1/24", "dev", "vmtest0"], check=True, timeout=60)
        subprocess.run(["ip", "link", "set", "vmtest0", "up"], check=True, timeout=60)
        refused = vmtool("run", make_spec(NAME, PORT, network={"subnet": "10.77.0.0/16"}), status=3)
        assert "10.77.5.0/24" in refused.err
        assert "vmtest0" in refused.err
    finally:
        subprocess.run(["ip", "link", "delete", "vmtest0"], check=True, timeout=60)


def test_a_full_disk(vmtool: Vmtool, make_spec: MakeSpec, tmp_path: Path, untouched: None) -> None:
    """The state directory is on a file system of 64 KiB, in a mount namespace of the test's own."""
    tmp_path.chmod(0o700)
    tool = Vmtool(tmp_path)
    script = f"mount -t tmpfs -o size=64k none {tmp_path} && exec \"$@\""
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *tool.argv("run", make_spec(NAME, PORT))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (1, 3), done.stderr
    assert "No space left on device" in done.stderr or "disk" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_spec_no_instance_no_name(own_state: Vmtool, tmp_path: Path, untouched: None) -> None:
    assert "no such file" in own_state("run", tmp_path / "none.yaml", status=2).err
    assert "there is no instance 'x'" in own_state("status", "x", status=1).err
    assert "'../x' cannot name an instance" in own_state("rm", "../x", status=2).err
    assert "Missing argument" in own_state("run", status=2).err
    assert own_state("ps", "--json").json["instances"] == []
    assert not own_state.state.exists(), "looking creates nothing"


def test_an_ordinary_user_is_told_so(vmtool: Vmtool, make_spec: MakeSpec, tmp_path: Path, untouched: None) -> None:
    """Nothing of root's is readable, so nothing may seem to be empty. No test counts the processes of this user's."""
    state = tmp_path / "state"
    (state / "locks").mkdir(parents=True)
    state.chmod(0o700)
    for words in (["ps"], ["net", "show"], ["image", "list"], ["recover"], ["status", "x"]):
        argv = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", *Vmtool(state).argv(*words)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 3, (words, done.stderr)
        assert "hint: become root" in done.stderr
