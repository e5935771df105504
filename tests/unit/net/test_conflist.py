"""The rendered configuration list: the guide's values, deterministic, refused when unsound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmtool.errors import NotReady, VmtoolError
from vmtool.net import conflist as c
from vmtool.net.network import Network
from vmtool.spec.published_port import Publish

NETWORK = Network("alpha", "vmt-alpha", "10.201.7.0/24")


def render(network: Network = NETWORK, **values: bool) -> str:
    return c.render_conflist(network, version="1.0.0", data_dir=Path("/state/networks/alpha/leases"),
                             backend="iptables", **values)


def test_the_guides_values_are_the_default() -> None:
    assert json.loads(render()) == {
        "cniVersion": "1.0.0", "name": "alpha", "plugins": [
            {"type": "bridge", "bridge": "vmt-alpha", "isDefaultGateway": True, "forceAddress": False, "ipMasq": True,
             "hairpinMode": True, "ipam": {"type": "host-local", "dataDir": "/state/networks/alpha/leases",
                                           "ranges": [[{"subnet": "10.201.7.0/24"}]]}},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall", "backend": "iptables"}]}


def test_same_values_same_bytes_and_quotes_are_no_way_out() -> None:
    assert render() == render()
    name = 'a", "evil": "b'
    assert json.loads(render(Network(name, "vmt-a", "10.201.7.0/24")))["name"] == name


@pytest.mark.parametrize(("network", "values", "problem"), [
    (NETWORK, {"force_address": True}, "forceAddress would take an address away"),
    (Network("a", "vmt-sixteen-chars", "10.1.0.0/24"), {}, "a bridge's name has 1 to 15 characters"),
    (Network("a", "", "10.1.0.0/24"), {}, "a bridge's name has 1 to 15 characters"),
    (Network("", "b", "10.1.0.0/24"), {}, "name is missing"),
])
def test_unsound_values_are_refused(network: Network, values: dict[str, bool], problem: str) -> None:
    with pytest.raises(VmtoolError, match="no sound network configuration") as caught:
        render(network, **values)
    assert any(problem in line for line in caught.value.details)


def change(path: str, value: Any) -> list[str]:
    """Lint the default list with one value changed."""
    conflist = json.loads(render())
    *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
    place = conflist
    for key in parents:
        place = place[key]
    place[last] = value
    return list(c.lint_conflist(conflist))


@pytest.mark.parametrize(("path", "value", "problem"), [
    ("plugins.0.ipam.routes", [{"dst": "0.0.0.0/0"}], "bridge: isDefaultGateway and a default route in ipam.routes"),
    ("plugins.0.ipam.type", "dhcp", "bridge: leases need host-local"),
    ("plugins.0.ipam.dataDir", "leases", "bridge: leases need host-local"),
    ("plugins.0.type", "macvlan", "the first plugin is ['macvlan'], not bridge"),
    ("plugins", [], "plugins is missing"),
])
def test_lint(path: str, value: Any, problem: str) -> None:
    problems = change(path, value)
    assert any(line.startswith(problem) for line in problems), problems


def test_lint_of_the_default_finds_nothing() -> None:
    assert change("plugins.0.ipam.routes", [{"dst": "10.9.0.0/16"}]) == []


def test_plugins_get_name_version_and_runtime_values_but_no_capabilities() -> None:
    configs = c.plugin_configs(render(), [Publish(18000, 8000), Publish(53, 53, "192.0.2.1", "udp")])
    assert [name for name, _ in configs] == ["bridge", "portmap", "firewall"]
    parsed = {name: json.loads(text) for name, text in configs}
    assert all(config["cniVersion"] == "1.0.0" and config["name"] == "alpha" for config in parsed.values())
    assert parsed["portmap"] == {
        "cniVersion": "1.0.0", "name": "alpha", "type": "portmap", "runtimeConfig": {"portMappings": [
            {"hostIP": "127.0.0.1", "hostPort": 18000, "containerPort": 8000, "protocol": "tcp"},
            {"hostIP": "192.0.2.1", "hostPort": 53, "containerPort": 53, "protocol": "udp"}]}}


def test_portmap_is_not_called_for_nothing() -> None:
    assert [name for name, _ in c.plugin_configs(render(), [])] == ["bridge", "firewall"]


@pytest.mark.parametrize(("supported", "chosen"), [
    (("0.4.0", "1.0.0"), "1.0.0"), (("0.3.1", "0.4.0"), "0.4.0"), (("1.0.0", "1.1.0"), "1.0.0")])
def test_version(supported: tuple[str, ...], chosen: str) -> None:
    assert c.choose_version(supported) == chosen


@pytest.mark.parametrize("supported", [(), ("0.1.0", "0.3.1"), ("2.0.0",)])
def test_no_version_in_common(supported: tuple[str, ...]) -> None:
    with pytest.raises(NotReady, match=r"vmtool needs 0\.4\.0 or 1\.0\.0"):
        c.choose_version(supported)
