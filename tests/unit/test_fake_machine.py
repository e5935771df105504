"""The machine of the tests answers as the real one did when it was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machine import FakeMachine
from tests.fakes.recorded import Recorded
from tests.unit.sweeps import net
from tests.unit.sweeps.engine import do
from vmtool.machine import Output
from vmtool.net.facts import read_network
from vmtool.net.iptables import TABLES
from vmtool.net.plan_add import plan_add
from vmtool.paths import State
from vmtool.plan import Remove, Run, WriteFile
from vmtool.spec.published_port import Publish


def test_two_networks_leave_the_rules_links_and_leases_that_real_plugins_left(tmp_path: Path) -> None:
    """tests/data/net/ours.json was recorded after `net add alpha` and `net add beta` on the host of busy.json."""
    state = State(tmp_path)
    machine, recorded = net.host("busy")(state), net.host("ours")(state)
    for name, subnet, port in (("alpha", "10.206.173.0/24", Publish(18000, 8000)),
                               ("beta", "10.66.0.0/24", Publish(18001, 8000, "0.0.0.0"))):
        do(state, machine, plan_add(state, read_network(machine, state), name, None, subnet, (port,)))
    for table in TABLES:
        assert machine.tables.lines(table) == recorded.tables.lines(table)
    now, then = read_network(machine, state), read_network(recorded, state)
    assert (now.ours, now.attached, now.our_leases) == (then.ours, then.attached, then.our_leases)
    assert (now.bridges, now.published, now.chains_made, now.netns) == (
        then.bridges, then.published, then.chains_made, then.netns)
    assert {(route.dst, route.dev) for route in now.routes} <= {(route.dst, route.dev) for route in then.routes}


def said(machine: FakeMachine, line: str) -> Output:
    return machine.execute(tuple(line.split()), deadline=1.0)


@pytest.mark.parametrize(("line", "status", "text"), [
    # Each as coreutils 9.1, util-linux 2.38, iproute2 6.1 and iptables 1.8.9 answered on Debian 12.
    ("mv --force --no-target-directory /no /b", 1, "mv: cannot stat '/no': No such file or directory"),
    ("mv --force --no-target-directory /f /same", 1, "mv: '/f' and '/same' are the same file"),
    ("mv --force --no-target-directory /f /d", 1, "mv: cannot overwrite directory '/d' with non-directory"),
    ("mv --force --no-target-directory /f /no/x", 1, "mv: cannot move '/f' to '/no/x': No such file or directory"),
    ("mv --force --no-target-directory /f/x /g", 1, "mv: cannot stat '/f/x': Not a directory"),
    ("mv --no-target-directory /d /full", 1, "mv: cannot move '/d' to '/full': Directory not empty"),
    ("ln /f /g", 1, "ln: failed to create hard link '/g': File exists"),
    ("cp --no-target-directory /no /q", 1, "cp: cannot stat '/no': No such file or directory"),
    ("rmdir --ignore-fail-on-non-empty /full", 0, ""),
    ("rmdir --ignore-fail-on-non-empty /no", 1, "rmdir: failed to remove '/no': No such file or directory"),
    ("umount /d", 32, "umount: /d: not mounted."),
    ("umount /no", 32, "umount: /no: no mount point specified."),
    ("ls /no", 2, "ls: cannot access '/no': No such file or directory"),
    ("chmod 0644 /no", 1, "chmod: cannot access '/no': No such file or directory"),
    ("install -m 0644 /no /q", 1, "install: cannot stat '/no': No such file or directory"),
    ("ip netns delete no", 1, 'Cannot remove namespace file "/var/run/netns/no": No such file or directory'),
    ("iptables -w -t filter -D CNI-ADMIN -j DROP", 1,
     "iptables: Bad rule (does a matching rule exist in that chain?)."),
    ("iptables -w -t filter -A CNI-ADMIN -j DROP", 1, "iptables: No chain/target/match by that name."),
    ("iptables -w -t filter -F CNI-ADMIN", 1, "iptables: No chain/target/match by that name."),
    ("iptables -w -t nat -A OUTPUT -j CNI-NO", 2, "iptables v1.8.9 (nf_tables): Chain 'CNI-NO' does not exist"),
])
def test_programs_speak_the_real_ones_words(line: str, status: int, text: str) -> None:
    machine = FakeMachine(Recorded({}), {"/f": "f", "/g": "g", "/d": None, "/full/x": "x"})
    machine.tree.put("/same", machine.tree.get("/f"))
    result = said(machine, line)
    assert (result.status, result.err.strip()) == (status, text)


def test_a_program_without_a_fake_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="no such program"):
        Run(("sed", "-i", "s/a/b/", "/etc/passwd")).do(FakeMachine())


def test_what_is_mounted_below_a_directory_is_never_removed() -> None:
    machine = FakeMachine(files={"/s/tree/x": "of another file system"})
    machine.tree.mounts.append("/s/tree")
    with pytest.raises(Exception, match="/s/tree is mounted there, so it is not removed"):
        Remove(Path("/s")).do(machine)
    assert machine.text("/s/tree/x")


def test_the_state_is_the_same_exactly_when_nothing_changed() -> None:
    machine = FakeMachine(files={"/f": "text"})
    before = machine.state()
    WriteFile(Path("/f"), "text", mode=0o644).do(machine)
    assert machine.state() == before
    WriteFile(Path("/f"), "text", mode=0o600).do(machine)
    assert [key for key in before if machine.state()[key] != before[key]] == ["files /f"]
