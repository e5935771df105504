"""One argv for every container: the restrictions are all there, and runc and Kata differ in nothing else."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from pathlib import Path

from tests.fakes import plans
from vmtool.containerd.actions import DeleteTask
from vmtool.containerd.container import CAPABILITIES, Container, removal, run_argv
from vmtool.containerd.endpoint import Endpoint
from vmtool.containerd.leases import LeaseMark
from vmtool.plan import Run

ENDPOINT = Endpoint(Path("/run/c.sock"), private=True)
CONTAINER = Container("a", "docker.io/x/y:1", ("serve", "--model", "m"), memory=1 << 30, cpus=1.5,
                      binds=((Path("/k"), "/key"),), writable=((Path("/h"), "/hub"),), env=(("A", "b c"),),
                      netns=Path("/var/run/netns/n"))


MARK = LeaseMark(Path("/i/a/zone"), 17 * 60 + 5)


def pairs(argv: tuple[str, ...]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(argv))


def test_the_restrictions_are_all_there() -> None:
    argv = run_argv(ENDPOINT, CONTAINER, "--rm")
    assert argv[:6] == ("ctr", "--address", "/run/c.sock", "--namespace", "vmtool", "run")
    assert argv[-5:] == ("docker.io/x/y:1", "a", "serve", "--model", "m")
    assert {"--read-only", "--seccomp", "--rm"} <= set(argv)
    assert not {"--privileged", "--net-host", "--allow-new-privs"} & set(argv)
    assert {("--cap-drop", name) for name in CAPABILITIES} <= pairs(argv)
    assert len(CAPABILITIES) == 14
    assert "CAP_ALL" not in argv
    assert {
        ("--memory-limit", "1073741824"), ("--cpus", "1.5"), ("--env", "A=b c"),
        ("--with-ns", "network:/var/run/netns/n"),
        ("--mount", "type=bind,src=/k,dst=/key,options=bind:ro"),
        ("--mount", "type=bind,src=/h,dst=/hub,options=bind:rw"),
        ("--mount", "type=tmpfs,src=tmpfs,dst=/tmp,options=rw:exec:nosuid:nodev:mode=1777"),
    } <= pairs(argv)


def test_kata_differs_by_runtime_device_and_configuration_only() -> None:
    runc = run_argv(ENDPOINT, CONTAINER)
    kata = run_argv(ENDPOINT, replace(CONTAINER, handler="kata", devices=(Path("/dev/vfio/81"),),
                                      config=Path("/i/configuration.toml")))
    assert [word for word in kata if word not in runc] == [
        "io.containerd.kata.v2", "--device", "/dev/vfio/81", "--runtime-config-path", "/i/configuration.toml"]
    assert [word for word in runc if word not in kata] == ["io.containerd.runc.v2"]


def test_removal_takes_whatever_a_killed_run_left_and_forgives_what_is_not_there() -> None:
    actions = removal(ENDPOINT, "a", MARK)
    *lines, leases, _, cgroup = plans.lines(actions)
    assert [line.split("--namespace vmtool ", 1)[1].split(";")[0] for line in lines] == [
        "task delete --force a", "container delete a", "snapshot delete a"]
    assert leases.endswith(f" | xargs --no-run-if-empty {shlex.join(ENDPOINT.ctr('leases', 'delete', '--sync'))}")
    assert cgroup.startswith("for d in /sys/fs/cgroup/pids/vmtool-a /sys/fs/cgroup/vmtool-a; do ")
    task, *_ = actions
    assert isinstance(task, DeleteTask)
    assert all("not found" in action.absent_messages for action in actions if isinstance(action, Run))
