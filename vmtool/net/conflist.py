"""The network configuration list: rendered from its template, read back, linted, taken apart for the plugins."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vmtool.errors import NotReady, VmtoolError
from vmtool.foreign import parse_json
from vmtool.net.network import Network
from vmtool.rendering import render_template
from vmtool.spec.published_port import Publish

TEMPLATE = "cni/bridge.conflist"
# 0.4.0 is the first with CHECK; a newer one than 1.0.0 brings nothing that is used here.
VERSIONS = ("1.0.0", "0.4.0")
# The values of the public virtCCA guide.
DEFAULTS = {"is_default_gateway": True, "force_address": False, "ip_masq": True, "hairpin_mode": True}


def choose_version(supported: Sequence[str]) -> str:
    """The newest CNI version that every plugin knows and vmtool speaks.

    Raises:
        NotReady: there is none.
    """
    for version in VERSIONS:
        if version in supported:
            return version
    known = ", ".join(supported) or "no version in common"
    raise NotReady(f"the CNI plugins speak {known}; vmtool needs {VERSIONS[-1]} or {VERSIONS[0]}",
                   hint="apt-get install containernetworking-plugins")


def render_conflist(network: Network, *, version: str, data_dir: Path, backend: str, **values: bool) -> str:
    """The configuration list as text; the same values give the same bytes.

    Args:
        data_dir: where host-local keeps this network's leases.
        backend: of the firewall plugin, "iptables" or "firewalld".
        values: other booleans than `DEFAULTS`.

    Raises:
        VmtoolError: the template's result is no sound configuration; every problem is in the details.
    """
    # It is JSON, and every value goes through tojson.
    text = render_template(
        TEMPLATE, cni_version=version, name=network.name, bridge=network.bridge, subnet=network.subnet,
        data_dir=str(data_dir), firewall_backend=backend, **(DEFAULTS | values))
    try:
        problems = list(lint_conflist(parse_json(text)))
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise VmtoolError(f"templates/{TEMPLATE}.j2 gives no sound network configuration", details=problems)
    return text


def lint_conflist(conflist: dict[str, Any]) -> Iterator[str]:
    """What a plugin would refuse late, or would do wrongly in silence."""
    yield from (f"{key} is missing" for key in ("cniVersion", "name", "plugins") if not conflist.get(key))
    plugins = conflist.get("plugins") or []
    types = [plugin.get("type") for plugin in plugins]
    if types[:1] != ["bridge"]:
        yield f"the first plugin is {types[:1]}, not bridge"
    for plugin in plugins:
        yield from (f"{plugin.get('type')}: {problem}" for problem in _lint_plugin(plugin))


def _lint_plugin(plugin: dict[str, Any]) -> Iterator[str]:
    if plugin.get("type") == "bridge":
        ipam = plugin.get("ipam") or {}
        if len(plugin.get("bridge", "")) not in range(1, 16):
            yield "a bridge's name has 1 to 15 characters"
        routes = [route.get("dst") for route in ipam.get("routes", [])]
        if plugin.get("isDefaultGateway") and "0.0.0.0/0" in routes:
            yield "isDefaultGateway and a default route in ipam.routes: the second one fails with \"file exists\""
        if plugin.get("forceAddress"):
            yield "forceAddress would take an address away from somebody's bridge"
        if ipam.get("type") != "host-local" or not str(ipam.get("dataDir", "")).startswith("/"):
            yield "leases need host-local with a dataDir of their own"


def plugin_configs(conflist: str, publish: Sequence[Publish]) -> list[tuple[str, str]]:
    """(type, configuration as text) of each plugin to call, in order.

    As CNI's specification wants it: name and cniVersion go into each, `capabilities` is dropped, and runtimeConfig
    goes to the plugin with that capability. portmap is left out when nothing is published.
    """
    whole = parse_json(conflist)
    mappings = [{"hostIP": item.host_ip, "hostPort": item.host_port, "containerPort": item.container_port,
                 "protocol": item.protocol} for item in publish]
    configs = []
    for plugin in whole["plugins"]:
        config = {"cniVersion": whole["cniVersion"], "name": whole["name"], **plugin}
        if config.pop("capabilities", {}).get("portMappings"):
            if not mappings:
                continue
            config["runtimeConfig"] = {"portMappings": mappings}
        configs.append((str(plugin["type"]), json.dumps(config, indent=2) + "\n"))
    return configs
