"""The host side of CNI against plugins and an iptables that answer like the real ones."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.host import FakeHost
from vmtool.errors import NotReady, VmtoolError
from vmtool.machine import Output, Pairs
from vmtool.net.actions import CallPlugin, RemoveBridge, RemoveChain, RemoveSharedChains

RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]}
MAC = {"code": 999, "msg": "could not set bridge's mac: invalid argument"}
Call = Callable[..., CallPlugin]


class Plugin(FakeHost):
    """Answers from a list, one for each call; remembers what it was given."""

    def __init__(self, *answers: Output) -> None:
        super().__init__()
        self.answers = list(answers)
        self.configs: list[dict[str, Any]] = []
        self.envs: list[dict[str, str]] = []
        self.commands: list[str] = []

    def execute(self, argv: Sequence[str], *, deadline: float, env: Pairs = (), stdin: Path | bytes | None = None,
                stdout: Path | None = None) -> Output:
        if argv[0] == "ip":
            self.commands.append(shlex.join(argv))
            bridge = [{"ifname": "vmt-a", "linkinfo": {"info_kind": "bridge"}}] if "-d" in argv else []
            return Output(0, json.dumps(bridge), "")
        self.envs.append(dict(env))
        self.configs.append(json.loads(stdin if isinstance(stdin, bytes) else b"{}"))
        return self.answers.pop(0)


def said(values: object, status: int = 0) -> Output:
    return Output(status, json.dumps(values), "")


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """Call a plugin that gives the answers; returns the action, with the plugin in `plugin`."""
    plugin_path = tmp_path / "bridge"
    plugin_path.touch()
    (tmp_path / "bridge.json").write_text('{"name": "a", "type": "bridge"}')

    def do(fake: Plugin, command: str = "ADD", **changes: Any) -> CallPlugin:
        values: dict[str, Any] = {"previous": None, "result": tmp_path / "result.json" if command == "ADD" else None,
                                  "retry_without_bridge": "vmt-a", **changes}
        action = CallPlugin(command, values.pop("plugin", plugin_path), values.pop("config", tmp_path / "bridge.json"),
                            "box", Path("/var/run/netns/box"), "eth0", **values)
        action.do(fake)
        return action

    return do


def test_add_writes_the_result_and_speaks_as_cni_defines(call: Call, tmp_path: Path) -> None:
    plugin = Plugin(said(RESULT))
    action = call(plugin)
    assert json.loads((tmp_path / "result.json").read_text()) == RESULT
    assert plugin.envs == [{"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "box", "CNI_NETNS": "/var/run/netns/box",
                            "CNI_IFNAME": "eth0", "CNI_PATH": str(action.plugin.parent)}]


def test_the_previous_result_travels_in(call: Call, tmp_path: Path) -> None:
    (tmp_path / "before.json").write_text(json.dumps(RESULT))
    plugin = Plugin(said(RESULT))
    call(plugin, previous=tmp_path / "before.json")
    assert plugin.configs == [{"name": "a", "type": "bridge", "prevResult": RESULT}]


def test_a_bridge_with_a_zero_address_is_deleted_and_the_add_repeated_once(call: Call) -> None:
    plugin = Plugin(said(MAC, 1), said(RESULT))
    call(plugin)
    assert plugin.commands[-1] == "ip link delete dev vmt-a type bridge"
    with pytest.raises(VmtoolError, match="could not set bridge's mac"):
        call(Plugin(said(MAC, 1), said(MAC, 1), said(RESULT)))


def test_no_bridge_is_deleted_unless_the_action_names_it(call: Call) -> None:
    plugin = Plugin(said(MAC, 1))
    with pytest.raises(VmtoolError, match="could not set bridge's mac"):
        call(plugin, retry_without_bridge="")
    assert plugin.commands == []


def test_del_is_repeated_once_after_999(call: Call) -> None:
    call(Plugin(said({"code": 999, "msg": "flaky"}, 1), Output(0, "", "")), "DEL")
    with pytest.raises(VmtoolError, match=r"bridge failed on DEL for box: flaky \(code 999\)"):
        call(Plugin(said({"code": 999, "msg": "flaky"}, 1), said({"code": 999, "msg": "flaky"}, 1)), "DEL")


def test_del_without_a_configuration_has_nothing_to_undo(call: Call, tmp_path: Path) -> None:
    plugin = Plugin()
    call(plugin, "DEL", config=tmp_path / "never-written.json")
    assert plugin.configs == []


def test_del_without_a_previous_result_goes_without(call: Call, tmp_path: Path) -> None:
    plugin = Plugin(Output(0, "", ""))
    call(plugin, "DEL", previous=tmp_path / "never-written.json")
    assert plugin.configs == [{"name": "a", "type": "bridge"}]


@pytest.mark.parametrize(("output", "message", "detail", "hint"), [
    (said({"code": 7, "msg": "bad", "details": "line"}, 1), r"bridge failed on ADD for box: bad \(code 7\)", "line",
     ""),
    (said({"msg": '"vmt-a" already has an IP address different from 10.0.0.1/24'}, 1), "already has an IP", "",
     "choose another bridge"),
    (said({"msg": "no IP addresses available in range set: 10.0.0.1-10.0.0.6"}, 1), "no IP addresses", "", "net reset"),
    (Output(-9, "", "fatal error: out of memory"), "signal 9", "fatal error: out of memory", ""),
    (Output(2, "panic: x\ngoroutine 1", ""), "exit status 2", "goroutine 1", ""),
    (Output(1, "[1]", ""), "exit status 1", "[1]", ""),
    (Output(0, "", ""), "gave no address on ADD", "", ""),
    (Output(0, "{", ""), "gave no address on ADD", "{", ""),
    (Output(0, '{"cniVersion": "1.0.0"}', ""), "gave no address on ADD", "", ""),
])
def test_failures_are_told_with_name_words_and_hint(call: Call, tmp_path: Path, output: Output, message: str,
                                                    detail: str, hint: str) -> None:
    with pytest.raises(VmtoolError, match=message) as caught:
        call(Plugin(output))
    assert detail in "\n".join(caught.value.details)
    assert hint in caught.value.hint
    assert not (tmp_path / "result.json").exists()


def test_a_missing_plugin_is_the_hosts_fault(call: Call, tmp_path: Path) -> None:
    with pytest.raises(NotReady, match="is not installed") as caught:
        call(Plugin(), plugin=tmp_path / "portmap")
    assert caught.value.hint == "apt-get install containernetworking-plugins"


def test_an_add_with_a_broken_configuration_or_previous_result(call: Call, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for changes in ({"config": tmp_path / "broken.json"}, {"previous": tmp_path / "absent.json"}):
        with pytest.raises(VmtoolError, match="cannot be read"):
            call(Plugin(), **changes)


class Iptables(FakeHost):
    """Rules in memory, printed by -S and changed by -D, -F and -X like the real one does."""

    def __init__(self, **tables: str) -> None:
        super().__init__()
        self.tables = {table: [line.strip() for line in text.strip().splitlines()] for table, text in tables.items()}

    def which(self, program: str) -> str | None:
        return f"/sbin/{program}"

    def execute(self, argv: Sequence[str], **rest: object) -> Output:
        program, wait, option, table, command, *words = argv
        assert (program, wait, option) == ("iptables", "-w", "-t")
        rules = self.tables.setdefault(table, [])
        if command == "-S":
            return Output(0, "\n".join(rules), "")
        if command == "-D":
            found = [rule for rule in rules if shlex.split(rule) == ["-A", *words]]
            if not found:
                return Output(1, "", "iptables: Bad rule (does a matching rule exist in that chain?).")
            rules.remove(found[0])
        if command == "-F":
            rules[:] = [rule for rule in rules if not rule.startswith(f"-A {words[0]} ")]
        if command == "-X":
            if any(rule.startswith(f"-A {words[0]} ") or rule.endswith(f"-j {words[0]}") for rule in rules):
                return Output(4, "", "iptables: Device or resource busy.")
            rules.remove(f"-N {words[0]}")
        return Output(0, "", "")


NAT = """
    -P PREROUTING ACCEPT
    -N CNI-HOSTPORT-DNAT
    -N CNI-HOSTPORT-MASQ
    -N CNI-HOSTPORT-SETMARK
    -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    -A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
    -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
    -A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
"""
FILTER = """
    -P FORWARD ACCEPT
    -N CNI-ADMIN
    -N CNI-FORWARD
    -A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
    -A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
"""
ALL = ("nat CNI-HOSTPORT-DNAT", "nat CNI-HOSTPORT-SETMARK", "nat CNI-HOSTPORT-MASQ", "filter CNI-FORWARD",
       "filter CNI-ADMIN")
EMPTY = {"nat": ["-P PREROUTING ACCEPT"], "filter": ["-P FORWARD ACCEPT"]}


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Path]:
    def do(iptables: Iptables, made: Sequence[str] | None = ALL, others: Sequence[str] = ()) -> Path:
        marker = tmp_path / "chains-made"
        if made is not None:
            marker.write_text("".join(f"{line}\n" for line in made))
        for name in ("own", *others):
            (tmp_path / name).mkdir()
            (tmp_path / name / "network.json").touch()
        RemoveSharedChains(marker, tmp_path, "own").do(iptables)
        return marker

    return do


def unchanged(**tables: str) -> dict[str, list[str]]:
    return Iptables(**tables).tables


def test_shared_chains_that_serve_nobody_go_with_the_last_network(sweep: Callable[..., Path]) -> None:
    iptables = Iptables(nat=NAT, filter=FILTER)
    marker = sweep(iptables)
    assert iptables.tables == EMPTY
    assert not marker.exists()


def test_they_stay_while_another_network_is_there(sweep: Callable[..., Path]) -> None:
    iptables = Iptables(nat=NAT, filter=FILTER)
    marker = sweep(iptables, others=("second",))
    assert iptables.tables == unchanged(nat=NAT, filter=FILTER)
    assert marker.exists()


@pytest.mark.parametrize(("made", "kept"), [
    ((), ("nat", "filter")), (None, ("nat", "filter")), (ALL[3:], ("nat",)), (ALL[:3], ("filter",)),
    (ALL[1:], ("nat",)), (ALL[:4], ("filter",))])
def test_chains_that_existed_before_stay(sweep: Callable[..., Path], made: Sequence[str] | None,
                                         kept: Sequence[str]) -> None:
    iptables = Iptables(nat=NAT, filter=FILTER)
    sweep(iptables, made)
    wanted = unchanged(nat=NAT, filter=FILTER)
    assert iptables.tables == {table: wanted[table] if table in kept else EMPTY[table] for table in EMPTY}


@pytest.mark.parametrize(("table", "rule"), [
    ("nat", "-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 9443 -j CNI-DN-0123"),
    ("nat", "-A CNI-DN-0123 -s 127.0.0.1/32 -p tcp -m tcp --dport 9443 -j CNI-HOSTPORT-SETMARK"),
    ("nat", "-A CNI-HOSTPORT-MASQ -s 10.9.0.0/16 -j RETURN"),
    ("filter", "-A CNI-ADMIN -s 192.0.2.0/24 -j DROP"),
    ("filter", "-A CNI-ADMIN -m comment --comment counter"),
    ("filter", "-A CNI-FORWARD -s 10.88.0.2/32 -j ACCEPT"),
    ("filter", "-A DOCKER-USER -j CNI-ADMIN"),
])
def test_chains_that_hold_somebodys_rule_stay_with_their_group(sweep: Callable[..., Path], table: str,
                                                               rule: str) -> None:
    iptables = Iptables(nat=NAT, filter=FILTER)
    iptables.tables[table].append(rule)
    before = list(iptables.tables[table])
    sweep(iptables)
    other = {"nat": "filter", "filter": "nat"}[table]
    assert iptables.tables == {table: before, other: EMPTY[other]}


def test_a_containers_chain_goes_with_its_jumps_and_no_other() -> None:
    mine = """
        -N CNI-1
        -A POSTROUTING -s 10.0.0.2/32 -m comment --comment "name: \\"a\\" id: \\"b\\"" -j CNI-1
        -A CNI-1 -d 10.0.0.0/24 -j ACCEPT"""
    iptables = Iptables(nat=NAT + mine + "\n-N CNI-12\n-A POSTROUTING -j CNI-12")
    for _ in range(2):
        RemoveChain("nat", "CNI-1").do(iptables)
        assert iptables.tables == unchanged(nat=NAT + "\n-N CNI-12\n-A POSTROUTING -j CNI-12")


def test_a_host_without_iptables_has_no_chains() -> None:
    RemoveChain("nat", "CNI-1").do(FakeHost())  # which has no programs, and fails a test that starts one


class Ports(Plugin):
    """A bridge whose ports go with their namespace, after a number of seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def execute(self, argv: Sequence[str], **options: Any) -> Output:
        if "master" in argv:
            return Output(0, json.dumps([{"ifname": "veth1"}] if self.clock < self.seconds else []), "")
        return super().execute(argv, **options)


def test_a_bridge_waits_for_its_ports_to_go_and_is_not_pulled_away_from_one_that_stays() -> None:
    """A busy kernel takes seconds for the namespaces that were deleted before."""
    host = Ports(8.0)
    RemoveBridge("vmt-a").do(host)
    assert host.commands[-1] == "ip link delete dev vmt-a type bridge"
    host = Ports(1e9)
    with pytest.raises(VmtoolError, match="still used by veth1"):
        RemoveBridge("vmt-a").do(host)
    assert host.clock < 11
