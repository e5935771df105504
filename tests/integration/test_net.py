"""`vmtool net` with the real plugins, ip and iptables, on a host inside the host."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator

import pytest

from tests.integration.apart import LINKS, apart
from tests.integration.kills import Pace, machine_states
from tests.integration.machine import COUNTERS, output
from tests.integration.nethost import ADDRESS, NEIGHBOUR, PLUGINS, NetHost

PODMAN = {"cniVersion": "1.0.0", "name": "podman", "type": "bridge", "bridge": "cni-podman0", "isGateway": True,
          "ipMasq": True, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]],
                                   "routes": [{"dst": "0.0.0.0/0"}]}}
MAPPED = {"cniVersion": "1.0.0", "name": "podman", "type": "portmap", "runtimeConfig": {"portMappings": [
    {"hostPort": 9443, "containerPort": 443, "protocol": "tcp"}]}}


@pytest.fixture(scope="module", autouse=True)
def beside() -> Iterator[None]:
    """The machine around the inner hosts is one that nobody else changes."""
    if os.geteuid() or not os.path.exists(f"{PLUGINS}/bridge"):
        pytest.skip("needs root and containernetworking-plugins")
    with apart(LINKS):
        yield


def around() -> tuple[str, ...]:
    """What an inner host must leave alone of the machine around it."""
    return (output("ip", "-br", "link"), output("cat", "/proc/sys/net/ipv4/ip_forward"),
            COUNTERS.sub("", output("iptables-save")),
            str(sorted(os.listdir("/run/netns") if os.path.isdir("/run/netns") else ())))


@pytest.fixture
def host() -> Iterator[NetHost]:
    before = around()
    with NetHost() as inner:
        yield inner
    assert around() == before


def podman(host: NetHost) -> None:
    """Somebody's container with a published port and a rule that an administrator added."""
    host.run("ip", "netns", "add", "podman-1")
    host.run("ip", "-n", "podman-1", "link", "set", "lo", "up")
    result = host.plugin("ADD", "bridge", PODMAN, "podman-1", "podman-1")
    host.plugin("ADD", "portmap", {**MAPPED, "prevResult": result}, "podman-1", "podman-1")
    host.plugin("ADD", "firewall", {"cniVersion": "1.0.0", "name": "podman", "type": "firewall", "prevResult": result},
                "podman-1", "podman-1")
    host.run("iptables", "-w", "-A", "CNI-ADMIN", "-s", "203.0.113.0/24", "-j", "DROP")
    host.write("/etc/cni/net.d/87-podman.conflist", json.dumps({"name": "podman", "plugins": [PODMAN]}))
    host.serve(443, "podman", netns="podman-1")


def address(host: NetHost, name: str) -> str:
    found: str = host.vmtool("net", "show", name, "--json").json["network"]["attached"][0]["address"]
    return found


def test_a_port_on_loopback_reaches_the_container_from_the_host_only(host: NetHost) -> None:
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    host.vmtool("net", "add", "beta")
    host.serve(8000, "alpha", netns="alpha")
    inside = address(host, "alpha")
    assert host.ask("127.0.0.1", 18000).startswith("alpha")
    assert host.ask(ADDRESS, 18000, timeout=0.5) == ""
    assert host.ask(ADDRESS, 18000, netns="lan", timeout=0.5) == ""
    assert host.ask("127.0.0.1", 18000, netns="lan", timeout=0.5) == ""
    assert host.ask("127.0.0.1", 18000, netns="beta", timeout=0.5) == ""
    host.run("ip", "-n", "lan", "route", "add", "10.0.0.0/8", "via", ADDRESS)
    assert host.ask(inside, 8000).startswith("alpha"), "the host itself may"
    assert host.ask(inside, 8000, netns="lan", timeout=0.5) == "", "a neighbour routes the subnet through the host"
    assert host.ask(inside, 8000, netns="beta", timeout=0.5) == "", "a container of another network"


def test_two_networks_at_once_and_one_goes(host: NetHost) -> None:
    for number, name in enumerate(("alpha", "beta")):
        host.vmtool("net", "add", name, "--publish", f"1800{number}:8000")
        host.serve(8000, name, netns=name)
    assert host.ask("127.0.0.1", 18000).startswith("alpha")
    assert host.ask("127.0.0.1", 18001).startswith("beta")
    networks = host.vmtool("net", "show", "--json").json["networks"]
    assert len({network["subnet"] for network in networks}) == len({network["bridge"] for network in networks}) == 2
    host.vmtool("net", "del", "alpha")
    assert host.ask("127.0.0.1", 18000, timeout=0.5) == ""
    assert host.ask("127.0.0.1", 18001).startswith("beta")
    assert host.vmtool("net", "check", "beta").status == 0


def test_a_closed_forward_policy_lets_out_and_lets_published_ports_in(host: NetHost) -> None:
    host.run("iptables", "-w", "-P", "FORWARD", "DROP")
    host.run("iptables", "-w", "-A", "FORWARD", "-j", "REJECT")
    host.vmtool("net", "add", "alpha", "--publish", "0.0.0.0:18000:8000")
    host.serve(8000, "alpha", netns="alpha")
    host.serve(80, "lan", netns="lan")
    assert host.ask(ADDRESS, 18000, netns="lan") == f"alpha {NEIGHBOUR}"
    assert host.ask(NEIGHBOUR, 80, netns="alpha") == f"lan {ADDRESS}", "masqueraded"
    assert host.ask("127.0.0.1", 18000).startswith("alpha")
    host.serve(9, "alpha", netns="alpha")
    host.run("ip", "-n", "lan", "route", "add", "10.0.0.0/8", "via", ADDRESS)
    assert host.ask(address(host, "alpha"), 9, netns="lan", timeout=0.5) == ""


def route_loopback(host: NetHost, netns: str, via: str) -> None:
    """Let a namespace send what is for 127.0.0.1 to a neighbour."""
    host.run("sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1", netns=netns)
    host.run("ip", "-n", netns, "addr", "flush", "dev", "lo")
    host.run("ip", "-n", netns, "route", "flush", "table", "local", "127.0.0.0/8")
    host.run("ip", "-n", netns, "route", "add", "127.0.0.1", "via", via)


def test_a_port_on_loopback_is_not_reached_by_who_routes_loopback_to_the_host(host: NetHost) -> None:
    """portmap's DNAT comes before any rule of INPUT, and a port that is published outside opens the loopback too."""
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    host.vmtool("net", "add", "beta", "--publish", "0.0.0.0:18001:8000")
    host.serve(8000, "alpha", netns="alpha")
    host.serve(5432, "secret", address="127.0.0.1")
    assert host.ask("127.0.0.1", 18000).startswith("alpha")
    subnet = host.vmtool("net", "show", "beta", "--json").json["network"]["subnet"]
    route_loopback(host, "beta", subnet.replace(".0/24", ".1"))
    route_loopback(host, "lan", ADDRESS)
    for netns in ("beta", "lan"):
        for port in (18000, 5432):
            assert host.ask("127.0.0.1", port, netns=netns, timeout=0.5) == "", (netns, port)
    assert host.vmtool("net", "check", "alpha").status == 0
    host.run("iptables", "-w", "-t", "raw", "-F")
    assert host.ask("127.0.0.1", 18000, netns="beta").startswith("alpha"), "the rule is what keeps it out"
    assert "net.guard.localnet" in host.vmtool("net", "check", "alpha", "--json", status=4).out


def test_a_container_does_not_reach_what_listens_on_the_hosts_loopback(host: NetHost) -> None:
    """As in CVE-2020-8558: route_localnet on the bridge, and a container with its own idea of 127.0.0.1."""
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    host.serve(5432, "secret", address="127.0.0.1")
    gateway = host.vmtool("net", "show", "alpha", "--json").json["network"]["subnet"].replace(".0/24", ".1")
    route_loopback(host, "alpha", gateway)
    assert host.ask("127.0.0.1", 5432, netns="alpha", timeout=0.5) == ""
    host.run("iptables", "-w", "-t", "raw", "-D", "PREROUTING", "1")
    assert host.ask("127.0.0.1", 5432, netns="alpha").startswith("secret"), "the rule is what keeps it out"


def test_nothing_of_anybody_elses_is_touched(host: NetHost) -> None:
    podman(host)
    before = host.footprint()
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000", "--publish", "0.0.0.0:18001:8000")
    assert host.footprint() != before
    host.vmtool("net", "check", "alpha")
    host.vmtool("net", "reset", "alpha")
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before
    assert host.ask(ADDRESS, 9443, netns="lan").startswith("podman")


def test_chains_that_others_use_by_now_stay(host: NetHost) -> None:
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    podman(host)
    host.vmtool("net", "del", "alpha")
    assert host.ask(ADDRESS, 9443, netns="lan").startswith("podman")
    rules = host.footprint()["rules"]
    assert "-N CNI-HOSTPORT-DNAT" in rules["nat"]
    assert "-A CNI-ADMIN -s 203.0.113.0/24 -j DROP" in rules["filter"]
    assert not any("vmt-alpha" in rule or "alpha" in rule for lines in rules.values() for rule in lines)


def test_the_last_network_takes_the_shared_chains_along(host: NetHost) -> None:
    before = host.footprint()
    for name in ("alpha", "beta"):
        host.vmtool("net", "add", name, "--publish", "18000:8000" if name == "alpha" else "18001:8000")
    host.vmtool("net", "del", "alpha")
    assert "-N CNI-FORWARD" in host.footprint()["rules"]["filter"]
    host.vmtool("net", "del", "beta")
    assert host.footprint() == before


@pytest.mark.parametrize(("words", "problem"), [
    (("--subnet", "10.88.5.0/24"), "subnet 10.88.5.0/24 overlaps the route 10.88.0.0/16 dev cni-podman0"),
    (("--subnet", "198.51.100.0/24"), "is not private address space"),
    (("--bridge", "cni-podman0"), "the bridge cni-podman0 exists already (10.88.0.1/16) and is not vmtool's"),
    (("--publish", "9443:1"), "published port 127.0.0.1:9443:1: the iptables chain CNI-DN-"),
    (("--publish", "5432"), "published port 127.0.0.1:5432:5432: something listens on 127.0.0.1:5432"),
    (("--publish", "203.0.113.7:1:1"), "203.0.113.7 is no address of this host"),
])
def test_what_is_taken_is_refused_before_the_first_change(host: NetHost, words: tuple[str, ...], problem: str) -> None:
    podman(host)
    host.serve(5432, "database", address="127.0.0.1")
    before = host.footprint()
    done = host.vmtool("net", "add", "alpha", *words, status=None)
    assert done.status in (2, 3)
    assert problem in done.err
    assert "hint: " in done.err
    assert host.footprint() == before
    assert host.vmtool("net", "show", "--json").json["networks"] == []


def test_auto_keeps_out_of_the_way(host: NetHost) -> None:
    podman(host)
    host.run("ip", "link", "add", "vmt-alpha", "type", "bridge")
    host.run("ip", "route", "add", "blackhole", "10.128.0.0/9")
    host.vmtool("net", "add", "alpha")
    network = host.vmtool("net", "show", "alpha", "--json").json["network"]
    assert network["subnet"].startswith("172.2")
    assert network["bridge"] != "vmt-alpha"
    host.vmtool("net", "del", "alpha")
    assert "vmt-alpha" in host.run("ip", "-br", "link").stdout, "somebody's bridge of that name"


def test_the_same_again_is_nothing_to_do_and_another_is_refused(host: NetHost) -> None:
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    before = host.footprint()
    assert "nothing to do" in host.vmtool("net", "add", "alpha", "--publish", "18000:8000").err
    assert "publishes 127.0.0.1:18000:8000" in host.vmtool("net", "add", "alpha", status=2).err
    assert "vmtool net del alpha" in host.vmtool("net", "add", "alpha", "--subnet", "10.1.0.0/24", status=2).err
    assert host.footprint() == before


def test_names(host: NetHost) -> None:
    assert "hint: vmtool net show" in host.vmtool("net", "del", "absent", status=1).err
    assert "hint: vmtool net show" in host.vmtool("net", "reset", "absent", status=1).err
    for name in ("../x", "A", "x" * 64, "a/b", "-a"):
        assert "cannot name a network" in host.vmtool("net", "add", "--", name, status=2).err
    host.vmtool("net", "add", "x" * 63)
    assert host.vmtool("net", "check", "x" * 63).status == 0


def test_the_runbook_typed_by_hand_makes_the_same_network(host: NetHost) -> None:
    if not shutil.which("jq"):
        pytest.skip("needs jq")
    dry = host.vmtool("net", "add", "alpha", "--publish", "18000:8000", "--dry-run").out
    before = host.footprint()
    assert before["files"] == []
    host.run("bash", "-e", stdin=dry)
    by_hand = host.footprint()
    assert host.vmtool("net", "check", "alpha").status == 0
    host.vmtool("net", "reset", "alpha")  # writes the journal that a runbook has not
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    by_vmtool = host.footprint()
    for what in ("rules", "addresses", "netns", "files"):
        assert by_vmtool[what] == by_hand[what]


def test_a_namespace_that_is_gone_before_del_leaves_nothing(host: NetHost) -> None:
    before = host.footprint()
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    host.run("ip", "netns", "delete", "alpha")
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before


def test_after_a_reboot_check_tells_and_reset_mends(host: NetHost) -> None:
    before = host.footprint()
    host.vmtool("net", "add", "alpha", "--publish", "18000:8000")
    host.run("ip", "netns", "delete", "alpha")
    host.run("ip", "link", "delete", "vmt-alpha")
    for table in ("nat", "filter"):
        host.run("iptables", "-w", "-t", table, "-F")
        host.run("iptables", "-w", "-t", table, "-X")
    room = "/var/lib/vmtool/networks/alpha/leases/alpha"
    subnet = host.vmtool("net", "show", "alpha", "--json").json["network"]["subnet"]
    host.write(f"{room}/{subnet.replace('.0/24', '.77')}", "long-gone\neth0")
    found = host.vmtool("net", "check", "alpha", "--json", status=4).json["findings"]
    failed = {item["id"] for item in found if item["level"] == "fail"}
    assert {"net.bridge", "net.netns", "net.stale-leases", "net.published.18000", "net.plugin.bridge"} <= failed
    assert "vmtool net reset alpha" in host.vmtool("net", "add", "alpha", "--publish", "18000:8000", status=3).err
    host.vmtool("net", "reset", "alpha")
    host.serve(8000, "alpha", netns="alpha")
    assert host.ask("127.0.0.1", 18000).startswith("alpha")
    assert host.vmtool("net", "check", "alpha").status == 0
    assert ".77" not in host.run("ls", room).stdout
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before


def test_a_failed_add_undoes_itself(host: NetHost) -> None:
    """No address is left: leases that a lost state left behind fill the range."""
    before = host.footprint()
    directory = "/var/lib/vmtool/networks/alpha"
    for number in range(2, 7):
        host.write(f"{directory}/leases/alpha/10.201.7.{number}", "somebody\neth0")
    done = host.vmtool("net", "add", "alpha", "--subnet", "10.201.7.0/29", status=1)
    assert "the CNI plugin bridge failed on ADD for alpha: " in done.err
    assert "no IP addresses available" in done.err
    assert f"log: {directory}/log/host.log" in done.err
    assert host.footprint() == before
    host.vmtool("net", "add", "alpha", "--subnet", "10.201.7.0/29")
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before


def test_a_bridge_that_somebody_plugged_into_is_not_pulled_away(host: NetHost) -> None:
    host.vmtool("net", "add", "alpha")
    host.run("ip", "link", "add", "mine", "type", "veth", "peer", "name", "theirs")
    host.run("ip", "link", "set", "mine", "master", "vmt-alpha")
    done = host.vmtool("net", "del", "alpha", status=1)
    assert "the bridge vmt-alpha is still used by mine" in done.err
    host.run("ip", "link", "delete", "mine")
    host.vmtool("net", "del", "alpha")
    assert "vmt-alpha" not in host.run("ip", "-br", "link").stdout


def test_instances_share_a_network_and_it_outlives_them(host: NetHost) -> None:
    empty = host.footprint()
    host.vmtool("net", "add", "alpha")
    before = host.footprint()
    one = host.run(sys.executable, "-m", "tests.integration.netattach", "attach", "one", "alpha", "18001:8000").stdout
    two = host.run(sys.executable, "-m", "tests.integration.netattach", "attach", "two", "alpha",
                   "0.0.0.0:18002:8000").stdout
    assert len({one, two, address(host, "alpha")}) == 3
    for box in ("one", "two"):
        host.serve(8000, box, netns=f"vmtool-{box}")
    assert host.ask("127.0.0.1", 18001).startswith("one")
    assert host.ask(ADDRESS, 18002, netns="lan").startswith("two"), "although the first guest's rule closes the bridge"
    assert host.ask(two, 8000, netns="vmtool-one").startswith("two")
    assert host.vmtool("net", "check", "alpha").status == 0
    for verb in ("del", "reset"):
        err = host.vmtool("net", verb, "alpha", status=2).err
        assert "it is used by instance one, instance two" in err
        assert "hint: vmtool rm one && vmtool rm two" in err
    host.run(sys.executable, "-m", "tests.integration.netattach", "detach", "one", "alpha")
    assert host.ask(ADDRESS, 18002, netns="lan").startswith("two")
    host.run(sys.executable, "-m", "tests.integration.netattach", "detach", "two", "alpha")
    after = host.footprint()
    # portmap's shared chains came with the first guest and go with the network, their marker's owner.
    after["rules"]["nat"] = [rule for rule in after["rules"]["nat"] if "CNI-HOSTPORT" not in rule]
    assert after == before
    assert host.vmtool("net", "check", "alpha").status == 0
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == empty


def test_an_instances_own_network_comes_and_goes_with_it(host: NetHost) -> None:
    before = host.footprint()
    host.run(sys.executable, "-m", "tests.integration.netattach", "attach", "box", "-", "18000:8000")
    shown = host.vmtool("net", "show", "box", "--json").json["network"]
    assert (shown["owner"], shown["bridge"]) == ("instance box", "vmt-box")
    assert "it is used by instance box" in host.vmtool("net", "del", "box", status=2).err
    assert "is private: it belongs to instance box" in host.vmtool("net", "add", "box", status=2).err
    assert host.run(sys.executable, "-m", "tests.integration.netattach", "attach", "other", "box",
                    status=None).returncode != 0
    host.run(sys.executable, "-m", "tests.integration.netattach", "detach", "box", "-")
    assert host.footprint() == before


ADD = ("net", "add", "alpha", "--publish", "18000:8000")


@pytest.fixture(scope="module")
def records_of_add() -> list[str]:
    """They are the same on each such machine."""
    with NetHost() as machine:
        return machine.recorded(*ADD)


@pytest.mark.timing
@pytest.mark.parametrize("way_back", ["del", "recover"])
def test_kill_9_at_any_record_of_an_add_leaves_nothing_after_the_way_back(host: NetHost, way_back: str,
                                                                          pace: Pace) -> None:
    podman(host)
    before, add = host.footprint(), (*ADD, "--publish", "0.0.0.0:18001:8000")
    points = machine_states(host.recorded(*add))
    assert len(points) > 8
    assert points[-1] == "applied\n"
    host.vmtool("net", "del", "alpha")
    for point in pace.some(points[:-1]):
        assert host.killed(point, *add), point
        host.vmtool(*(("net", "del", "alpha") if way_back == "del" else ("recover",)))
        assert host.vmtool("recover").err == "nothing to recover\n", point
        assert host.footprint() == before, point


@pytest.mark.timing
def test_kill_9_after_the_last_record_of_an_add_finds_it_done(host: NetHost) -> None:
    before = host.footprint()
    assert host.killed("applied\n", *ADD)
    assert host.vmtool("recover").err == "nothing to recover\n"
    assert host.vmtool("net", "check", "alpha").status == 0
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before


@pytest.mark.timing
def test_kill_9_at_any_record_of_a_del_leaves_nothing_after_another(host: NetHost) -> None:
    before = host.footprint()
    host.vmtool(*ADD)
    points = host.recorded("net", "del", "alpha")
    assert len(points) > 2
    assert points[-1] == "clean\n"
    for point in points:
        host.vmtool(*ADD)
        assert host.killed(point, "net", "del", "alpha"), point
        if point.startswith("undoing"):
            assert "undo: " in host.vmtool("recover", "--dry-run").out, point
            assert "hint: vmtool net del alpha\n" in host.vmtool(*ADD, status=1).err, point
        host.vmtool("recover")
        assert host.footprint() == before, point
        host.vmtool("net", "del", "alpha")
        assert host.footprint() == before, point


@pytest.mark.timing
def test_kill_9_at_any_record_of_a_reset_can_be_mended(host: NetHost, pace: Pace) -> None:
    before = host.footprint()
    host.vmtool(*ADD)
    published = host.vmtool("net", "show", "alpha", "--json").json["network"]["attached"][0]["publish"]
    assert published
    points = machine_states(host.recorded("net", "reset", "alpha"))
    assert len(points) > 15
    for point in pace.some(points):
        assert host.killed(point, "net", "reset", "alpha"), point
        host.vmtool("net", "reset", "alpha")
        assert host.vmtool("net", "check", "alpha").status == 0, point
        [attached] = host.vmtool("net", "show", "alpha", "--json").json["network"]["attached"]
        assert attached["publish"] == published, point
    host.vmtool("net", "del", "alpha")
    assert host.footprint() == before


@pytest.mark.timing
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)])
@pytest.mark.parametrize("plugin", ["bridge", "portmap", "firewall"])
def test_signals_before_in_and_after_a_plugin(host: NetHost, records_of_add: list[str], number: int, status: int,
                                              plugin: str) -> None:
    podman(host)
    before = host.footprint()
    line = (f"CNI_COMMAND=ADD CNI_CONTAINERID=alpha CNI_NETNS=/var/run/netns/alpha CNI_IFNAME=eth0 "
            f"CNI_PATH={PLUGINS} {PLUGINS}/{plugin}")
    points = [point for point in records_of_add if line in point]
    for moment, point in zip(("after", "before"), points, strict=True):
        assert host.signals_itself(signal.Signals(number).name, moment, point, *ADD) == status
        if number == signal.SIGKILL:
            host.vmtool("recover")
        assert host.footprint() == before, f"{moment} {point}"
    for delay in (0.0, 0.02):
        found = host.signalled(number, line, delay, *ADD)
        if number == signal.SIGKILL:
            host.vmtool("recover")
        done = host.vmtool("net", "show", "--json").json["networks"]
        # A signal that comes when all is done finds vmtool with nothing to undo, on its way out or gone.
        assert found in ((status, -number, 0) if done else (status,))
        if done:
            assert host.vmtool("net", "check", "alpha").status == 0
            host.vmtool("net", "del", "alpha")
        assert host.footprint() == before, f"after {delay} s"
